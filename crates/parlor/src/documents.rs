//! Documents that are generated from the structs, so that they never disagree.

use parlor_config::{commented_yaml, json_schema, markdown_reference};

use crate::config::{Config, rules};

const CONFIG: &str = "\
# Every key of Parlor's configuration, with its meaning and its default. Written by `cargo xtask docs`.
#
# Copy what you need, or begin with `parlor init`, which chooses values for training a small model on your own data.

";

const REFERENCE: &str = "\
# Configuration reference

Written by `cargo xtask docs` from the structs. `parlor config explain KEY` says the same of one key, and where its
present value comes from. Layers, later ones winning: defaults, files (`-c`, with `extends`), `.env`, the environment,
`--set KEY=VALUE`, updates at run time.
";

/// Path within the project, and the generated content.
pub fn generated_documents() -> Vec<(&'static str, String)> {
    let rules = rules();
    vec![
        ("config.yaml", format!("{CONFIG}{}", commented_yaml::<Config>(&[]))),
        ("docs/CONFIG.md", format!("{REFERENCE}{}", markdown_reference::<Config>(&rules))),
        ("docs/config.schema.json", format!("{:#}\n", json_schema::<Config>(&rules))),
    ]
}
