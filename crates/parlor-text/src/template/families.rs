//! Chat templates of which TRL's training template (1.16, `trl/chat_templates/*_training.jinja`) marks or keeps something
//! beyond the rule of `assistant.rs`, told by what stands in them.

/// What of a generation prompt is not trained with the answer behind it.
pub(crate) fn untrained_part<'c>(cue: &'c str, source: &str) -> &'c str {
    /// DeepSeek's and OpenAI's formats, of which the role is trained with the answer.
    const ROLES: [&str; 2] = ["<｜Assistant｜>", "<|start|>assistant"];
    // Of Qwen2.5's own template the line break behind the role is.
    let line_break = source.contains("You are Qwen, created by Alibaba Cloud.");
    match cue.strip_suffix('\n') {
        Some(role) if line_break && role == "<|im_start|>assistant" => role,
        _ if ROLES.contains(&cue) => "",
        _ => cue,
    }
}

/// A template that drops the thoughts of every answer, changed to keep them; none where it is not of that kind.
pub(crate) fn keeping_thoughts(source: &str) -> Option<String> {
    /// What keeps the answer's end alone.
    const DROPS: [&str; 2] = ["content.split('</think>')[-1]", "content.split('</think>') | last"];
    // A template that takes thoughts apart puts them back itself where it wants to. DeepSeek V3's, told by its count of
    // system prompts, is of a model without thoughts, and TRL's training template of it drops them too.
    const OTHERS: [&str; 3] = ["reasoning_content", "split('<think>')", "is_first_sp"];
    let drops = DROPS.into_iter().find(|drops| source.contains(drops))?;
    (!OTHERS.iter().any(|other| source.contains(other))).then(|| source.replace(drops, "content"))
}
