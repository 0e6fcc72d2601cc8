//! What can be typed: verbs and flags. Names are those of the contract for scripts; they only grow.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use parlor::model::{Device, TorchDtype, reserved_template_variable};
use serde_json::{Map, Value};

const LATER: &str = "\
Later versions add: quantize, export, convert, pull, push, cache, doctor, serve, \
runs, track.

Start with `parlor quickstart`, or with `parlor init` for data of your own.";

/// From a config.yaml to a chatbot of your own.
#[derive(Debug, Parser)]
#[command(name = "parlor", version, after_help = LATER)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every verb.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Global {
    /// Config file; repeatable, later files win [default: ./config.yaml when it exists]
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true, help_heading = "Everywhere")]
    pub(crate) config: Vec<PathBuf>,
    /// Sets one config key, over files and environment; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE", global = true, help_heading = "Everywhere")]
    pub(crate) set: Vec<String>,
    /// Writes the result to stdout as JSON
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// Warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Everywhere")]
    pub(crate) quiet: bool,
    /// More messages; twice for all
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Everywhere")]
    pub(crate) verbose: u8,
    /// Number of threads [default: one per core]
    #[arg(long, value_name = "N", global = true, value_parser = threads, help_heading = "Everywhere")]
    pub(crate) threads: Option<usize>,
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err("expected a number from 1 to 1024".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Trains a small chatbot from scratch on bundled dialogues, then opens a chat with it
    Quickstart(QuickstartArgs),
    /// Writes a commented config file to start from
    Init(InitArgs),
    /// Validates, shows and explains the configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Describes a model: architecture, parameters, memory, chat template
    Info(InfoArgs),
    /// Encodes text as token ids
    Tokenize(TokenizeArgs),
    /// Renders a conversation by the chat template, as text and token ids
    Render(RenderArgs),
    /// Prints the log-probability of each token of a text
    Score(ScoreArgs),
    /// Generates one completion of a prompt
    Generate(GenerateArgs),
    /// Chats with a model
    Chat(ChatArgs),
    /// Validates data, and shows what training would see of it
    #[command(subcommand)]
    Data(DataVerb),
    /// Estimates what `train` would need: memory, tokens, steps, time
    Plan(PlanArgs),
    /// Trains a model as configured
    Train(TrainArgs),
    /// Measures a model's loss and perplexity on data
    Eval(EvalArgs),
    /// Merges adapters into the weights of their model
    Merge(MergeArgs),
    /// Benchmarks this machine, and a model against its limits
    Bench(BenchArgs),
}

/// Work that `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchWork {
    /// A prompt of 512 tokens
    Prefill,
    /// Decoding, one sequence and eight at once
    Decode,
    /// A training step of all weights
    Train,
    /// A training step of a LoRA adapter
    Lora,
    /// Loading the model from disk
    Load,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The model: a directory in Hugging Face layout, or a .gguf file
    #[arg(short = 'm', long = "model", value_name = "MODEL", conflicts_with = "shape")]
    pub(crate) model: Option<String>,
    /// A shape with weights made up: qwen2.5-0.5b, qwen2.5-1.5b, qwen3-0.6b, small [default: qwen2.5-0.5b]
    #[arg(long, value_name = "NAME")]
    pub(crate) shape: Option<String>,
    /// Number format of the weights: f32, bf16, q8_0, q4_0, nf4 [default: bf16, or the model's own]
    #[arg(long, value_name = "DTYPE")]
    pub(crate) dtype: Option<String>,
    /// Measures these only [default: all]
    #[arg(long, value_name = "WORK", value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<BenchWork>,
    /// Has another program do the same in turn, and prints the ratios
    #[arg(long, value_name = "PEER", value_enum)]
    pub(crate) against: Option<BenchPeer>,
    /// Where the other program is: the directory of llama-bench, or a Python with torch [default: PATH]
    #[arg(long, value_name = "PATH", requires = "against")]
    pub(crate) peer: Option<PathBuf>,
    /// How often each side does each work
    #[arg(long, value_name = "N", default_value_t = 5, requires = "against", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) rounds: u64,
}

/// A program to measure beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BenchPeer {
    /// Its llama-bench and llama-batched-bench, on the same GGUF file
    #[value(name = "llama.cpp")]
    LlamaCpp,
    /// PyTorch with transformers and PEFT, on the same shape
    Torch,
}

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Directory for the merged model
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct QuickstartArgs {
    /// Directory for the data, the config and the model
    #[arg(long, value_name = "DIR", default_value = "parlor-quickstart")]
    pub(crate) dir: PathBuf,
    /// Ends after the training and the sample answers
    #[arg(long)]
    pub(crate) no_chat: bool,
    /// Trains for about this many seconds at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_seconds: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The file to write; an existing one is never replaced
    #[arg(value_name = "FILE", default_value = "config.yaml")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Reports every problem at once
    Validate,
    /// Prints the resolved configuration: what differs from the defaults
    Show {
        /// Every key, defaults included
        #[arg(long)]
        all: bool,
    },
    /// Prints the value of one key
    Get {
        /// The key, such as `training.seed`
        key: String,
    },
    /// Explains a key: its value, where that comes from, and its meaning
    Explain {
        /// The key, such as `training.seed`
        key: String,
    },
    /// Prints the JSON Schema of config files
    Schema {
        /// Prints the reference of all keys in Markdown instead
        #[arg(long)]
        markdown: bool,
    },
}

/// Which model, and how it is loaded.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ModelArgs {
    /// The model: a directory in Hugging Face layout, a .gguf file, or an output directory of `train` [default:
    /// `model.name`]
    #[arg(short = 'm', long = "model", value_name = "MODEL", help_heading = "Model")]
    pub(crate) model: Option<String>,
    /// Adapter directory in PEFT layout to attach
    #[arg(short = 'a', long = "adapter", value_name = "ADAPTER", help_heading = "Model")]
    pub(crate) adapter: Vec<PathBuf>,
    /// auto, cpu, cuda or cuda:N [default: `model.device`]
    #[arg(long, value_name = "DEVICE", help_heading = "Model")]
    pub(crate) device: Option<Device>,
    /// Number format of the weights [default: `model.torch_dtype`]
    #[arg(long, value_name = "DTYPE", value_enum, help_heading = "Model")]
    pub(crate) dtype: Option<Dtype>,
}

/// `model.torch_dtype`, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    Auto,
    #[value(alias = "fp32", alias = "f32")]
    Float32,
    #[value(alias = "bf16")]
    Bfloat16,
    #[value(alias = "fp16", alias = "f16")]
    Float16,
}

impl From<Dtype> for TorchDtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Auto => TorchDtype::Auto,
            Dtype::Float32 => TorchDtype::Float32,
            Dtype::Bfloat16 => TorchDtype::Bfloat16,
            Dtype::Float16 => TorchDtype::Float16,
        }
    }
}

/// What else the chat template is given.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TemplateArgs {
    /// Variables of the chat template, such as {"enable_thinking": false}; over `model.chat_template_kwargs`
    #[arg(long, value_name = "JSON", value_parser = template_kwargs, help_heading = "Model")]
    pub(crate) template_kwargs: Option<TemplateKwargs>,
}

/// A JSON object of template variables.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TemplateKwargs(pub(crate) Map<String, Value>);

fn template_kwargs(text: &str) -> Result<TemplateKwargs, String> {
    let map = match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map,
        Ok(other) => {
            return Err(format!(
                "expected a JSON object such as {{\"enable_thinking\": false}}, found {other}"
            ));
        }
        Err(error) => {
            return Err(format!("expected a JSON object such as {{\"enable_thinking\": false}}: {error}"));
        }
    };
    match reserved_template_variable(map.keys()) {
        Some(problem) => Err(problem),
        None => Ok(TemplateKwargs(map)),
    }
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) what: TokenizeInput,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct TokenizeInput {
    /// The text; one that begins with a hyphen stands after `--`
    #[arg(allow_negative_numbers = true)]
    pub(crate) text: Option<String>,
    /// A UTF-8 file with the text
    #[arg(long, value_name = "F")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RenderArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// JSON file: a list of messages, or an object with `messages` (and `tools`)
    #[arg(long, value_name = "FILE")]
    pub(crate) messages: PathBuf,
    /// Ends with the beginning of the assistant's next message
    #[arg(long)]
    pub(crate) add_generation_prompt: bool,
    /// JSON file: a list of the tools' schemas
    #[arg(long, value_name = "FILE")]
    pub(crate) tools: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) what: ScoreInput,
    /// Adds the K most likely tokens at each position
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top: usize,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ScoreInput {
    /// Token ids
    #[arg(long, value_name = "1,2,3", value_delimiter = ',')]
    pub(crate) ids: Option<Vec<u32>>,
    /// A text
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub(crate) text: Option<String>,
    /// JSONL rows: {"ids": [...]} or {"text": "..."}
    #[arg(long, value_name = "ROWS.jsonl")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) prompt: PromptArgs,
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PromptArgs {
    /// The prompt, as it is: no chat template is applied
    #[arg(short = 'p', long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// The prompt as token ids
    #[arg(long, value_name = "1,2,3", value_delimiter = ',')]
    pub(crate) ids: Option<Vec<u32>>,
    /// JSON file with messages; the chat template is applied, and the assistant answers
    #[arg(long, value_name = "FILE")]
    pub(crate) messages: Option<PathBuf>,
}

/// How tokens are chosen. What is not given comes from `serving.sampling_defaults`, then from the model's
/// generation_config.json, and is neutral otherwise.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SamplingArgs {
    /// At most this many new tokens
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    pub(crate) max_tokens: Option<usize>,
    /// 0 takes the most likely token each time (greedy)
    #[arg(long, value_name = "T", allow_negative_numbers = true, help_heading = "Sampling")]
    pub(crate) temperature: Option<f32>,
    /// Only the K most likely tokens; 0 is all
    #[arg(long, value_name = "K", help_heading = "Sampling")]
    pub(crate) top_k: Option<usize>,
    /// Only the likeliest tokens that reach this probability together; 1 is all
    #[arg(long, value_name = "P", allow_negative_numbers = true, help_heading = "Sampling")]
    pub(crate) top_p: Option<f32>,
    /// Only tokens at least this many times as likely as the likeliest; 0 is all
    #[arg(long, value_name = "P", allow_negative_numbers = true, help_heading = "Sampling")]
    pub(crate) min_p: Option<f32>,
    /// Only tokens about as surprising as expected, up to this probability; 1 is all
    #[arg(long, value_name = "P", allow_negative_numbers = true, help_heading = "Sampling")]
    pub(crate) typical_p: Option<f32>,
    /// Makes tokens that were seen less likely; 1 is off
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Sampling")]
    pub(crate) repetition_penalty: Option<f32>,
    /// Subtracted per time that a token was generated
    #[arg(long, value_name = "X", allow_hyphen_values = true, help_heading = "Sampling")]
    pub(crate) frequency_penalty: Option<f32>,
    /// Subtracted once a token was generated
    #[arg(long, value_name = "X", allow_hyphen_values = true, help_heading = "Sampling")]
    pub(crate) presence_penalty: Option<f32>,
    /// Makes sampling reproducible
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    pub(crate) seed: Option<u64>,
    /// Ends the answer before this text, which may hold special tokens; repeatable
    #[arg(long, value_name = "S", allow_hyphen_values = true, help_heading = "Sampling")]
    pub(crate) stop: Vec<String>,
    /// Goes on after the model's end-of-sequence token
    #[arg(long, help_heading = "Sampling")]
    pub(crate) ignore_eos: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// A system message to begin with
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataVerb {
    /// Reads every row, reports those that cannot be used, and says what the rows are like
    Validate {
        /// File, directory or pattern
        path: PathBuf,
        #[command(flatten)]
        model: ModelArgs,
    },
    /// Shows what training would see: tokens, and which of them are trained
    Inspect {
        /// File, directory or pattern
        path: PathBuf,
        #[command(flatten)]
        model: ModelArgs,
        #[command(flatten)]
        template: TemplateArgs,
        /// Rows to show
        #[arg(long, value_name = "N", default_value_t = 2)]
        rows: usize,
        /// Shows no rows, only what there is to say of all of them
        #[arg(long)]
        summary: bool,
    },
    /// Writes rows of any format as .jsonl or .json (also .jsonl.gz, .jsonl.zst)
    Convert {
        /// File, directory or pattern
        #[arg(value_name = "IN")]
        input: PathBuf,
        /// The new file
        #[arg(value_name = "OUT")]
        output: PathBuf,
        /// What the rows become [default: what they are]
        #[arg(long, value_name = "KIND", value_enum)]
        to: Option<Shape>,
    },
}

/// Kinds of rows that `data convert` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Shape {
    Messages,
    #[value(alias = "sharegpt")]
    Conversations,
    #[value(alias = "alpaca")]
    Instruction,
    PromptCompletion,
    Preference,
    Unpaired,
    Text,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Goes on from the newest checkpoint of `training.output_dir`, or from the one in DIR
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "", conflicts_with = "overwrite")]
    pub(crate) resume: Option<String>,
    /// Replaces the run that `training.output_dir` holds
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Takes this many optimizer steps, whatever the config says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_steps: Option<u64>,
    /// Changes the config as little as needed when the run does not fit into memory
    #[arg(long)]
    pub(crate) fit: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Plans this many optimizer steps, whatever the config says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) max_steps: Option<u64>,
    /// Changes the config as `parlor train --fit` would
    #[arg(long)]
    pub(crate) fit: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// File or directory with the rows
    #[arg(long, value_name = "PATH")]
    pub(crate) data: PathBuf,
}
