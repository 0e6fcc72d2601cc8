//! Chat templates whose training template in TRL (1.16, `trl/chat_templates/*_training.jinja`) marks or keeps
//! more than the general rule of `masks/spans.rs`. They are recognised by their text.

/// The part of a generation prompt that is not trained with the answer after it.
pub(crate) fn untrained_prompt<'c>(prompt: &'c str, source: &str) -> &'c str {
    /// DeepSeek's and OpenAI's formats: the role is trained with the answer.
    const ROLES: [&str; 2] = ["<｜Assistant｜>", "<|start|>assistant"];
    // Qwen2.5's own template: the line break after the role is trained.
    let line_break = source.contains("You are Qwen, created by Alibaba Cloud.");
    match prompt.strip_suffix('\n') {
        Some(role) if line_break && role == "<|im_start|>assistant" => role,
        _ if ROLES.contains(&prompt) => "",
        _ => prompt,
    }
}

/// A template that drops the thoughts of every answer, changed to keep them. None when it is of another kind.
pub(super) fn keeping_thoughts(source: &str) -> Option<String> {
    /// Expressions that keep only what follows the thought.
    const DROPS: [&str; 2] = ["content.split('</think>')[-1]", "content.split('</think>') | last"];
    // A template that parses thoughts puts them back itself where it wants to. DeepSeek V3's, recognised by
    // its count of system prompts, belongs to a model without thoughts, and TRL's training template of it
    // drops them too.
    const OTHERS: [&str; 3] = ["reasoning_content", "split('<think>')", "is_first_sp"];
    let drops = DROPS.into_iter().find(|drops| source.contains(drops))?;
    (!OTHERS.iter().any(|other| source.contains(other))).then(|| source.replace(drops, "content"))
}
