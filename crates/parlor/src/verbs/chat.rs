//! `parlor chat`: a conversation with a model, on a terminal or line by line.

use std::io::{self, BufRead, IsTerminal};

use parlor::engine::{FinishReason, SamplingParams};
use parlor::model::LoadedModel;
use parlor::text::Message;
use rustyline::error::ReadlineError;
use serde_json::{Map, Value};

use crate::answer::{AnswerRow, answer, chat_prompt, chosen, sampling, say_endless};
use crate::cli::ChatArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::{self, OnInterrupt};
use crate::model::{load, template, template_kwargs, tokenizer};
use crate::output::{self, note};

const HELP: &str = "\
/reset   forgets the conversation
/exit    leaves (so does Ctrl-D)
/help    this
Ctrl-C stops an answer.";

pub(super) fn run(context: &Context, args: &ChatArgs) -> Result<(), Failure> {
    let model = load(context, &args.model)?;
    let params = sampling(&chosen(context, &args.sampling)?, &model.generation)?;
    say_endless(&model, &params);
    let kwargs = template_kwargs(context, &args.template)?;
    talk(context, &model, &params, &kwargs, args.system.as_deref())
}

/// Talks until the user leaves.
pub(super) fn talk(
    context: &Context,
    model: &LoadedModel,
    params: &SamplingParams,
    kwargs: &Map<String, Value>,
    system: Option<&str>,
) -> Result<(), Failure> {
    // Said before the first question, not after it.
    template(model)?;
    tokenizer(model)?;
    let mut lines = Lines::open()?;
    if lines.is_terminal() {
        note(&format!("Chatting with {}. /help lists what else you can do.", model.path.display()));
    }
    let first: Vec<Message> = system.iter().map(|text| Message::new("system", text)).collect();
    let mut messages = first.clone();
    while let Some(line) = lines.next()? {
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => break,
            "/reset" => {
                messages.clone_from(&first);
                note("The conversation is forgotten.");
            }
            "/help" => note(HELP),
            command if is_command(command) => note(&format!("There is no {command}.\n{HELP}")),
            question => {
                messages.push(Message::new("user", question));
                let text = reply(context, model, params, kwargs, &mut messages, first.len())?;
                messages.push(Message::new("assistant", &text));
            }
        }
    }
    Ok(())
}

/// `/word`: a mistyped command rather than a question about a path.
fn is_command(line: &str) -> bool {
    line.strip_prefix('/').is_some_and(|word| !word.is_empty() && word.chars().all(char::is_alphabetic))
}

/// Answers the last message. What no longer fits into the model is left out, the oldest first, but never the
/// `kept` first messages.
fn reply(
    context: &Context,
    model: &LoadedModel,
    params: &SamplingParams,
    kwargs: &Map<String, Value>,
    messages: &mut Vec<Message>,
    kept: usize,
) -> Result<String, Failure> {
    let longest = model.max_length.min(params.max_length.unwrap_or(model.max_length));
    let room = params.max_tokens.min(longest / 4).max(1);
    let mut prompt = chat_prompt(model, messages, None, kwargs)?;
    let before = messages.len();
    while prompt.len() + room > longest && messages.len() > kept + 1 {
        // A question leaves with its answer, so that roles go on alternating.
        messages.drain(kept..(kept + 2).min(messages.len() - 1));
        prompt = chat_prompt(model, messages, None, kwargs)?;
    }
    if messages.len() < before {
        note("The conversation is longer than the model can see: its beginning is left out.");
    }
    interrupt::watch(OnInterrupt::Finish(""));
    let answer = if context.output.is_json() {
        let answer = answer(model, &prompt, params, &mut |_| Ok(()))?;
        output::json(&AnswerRow::from(&answer))?;
        answer
    } else {
        let answer = answer(model, &prompt, params, &mut output::piece)?;
        output::piece("\n")?;
        answer
    };
    if answer.finish_reason == FinishReason::Cancelled {
        interrupt::take();
        note("(stopped)");
    }
    Ok(answer.text)
}

/// Where questions come from.
enum Lines {
    Terminal(Box<rustyline::DefaultEditor>),
    Stream(io::StdinLock<'static>),
}

impl Lines {
    fn open() -> Result<Self, Failure> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(Self::Stream(io::stdin().lock()));
        }
        let editor = rustyline::DefaultEditor::new()
            .map_err(|error| Failure::failed(format!("cannot read from the terminal: {error}")))?;
        Ok(Self::Terminal(Box::new(editor)))
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next line, `None` at the end.
    fn next(&mut self) -> Result<Option<String>, Failure> {
        interrupt::watch(OnInterrupt::Exit);
        let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("cannot read a line: {error}"));
        match self {
            Self::Terminal(editor) => match editor.readline("> ") {
                Ok(line) => {
                    // A history that cannot grow is no reason to stop.
                    let _ = editor.add_history_entry(&line);
                    Ok(Some(line))
                }
                Err(ReadlineError::Interrupted) => {
                    note("(/exit or Ctrl-D leaves)");
                    Ok(Some(String::new()))
                }
                Err(ReadlineError::Eof) => Ok(None),
                Err(error) => Err(failed(&error)),
            },
            Self::Stream(input) => {
                let mut line = String::new();
                match input.read_line(&mut line) {
                    Ok(0) => Ok(None),
                    Ok(_) => Ok(Some(line)),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        Err(Failure::input("a line of the input is not valid UTF-8"))
                    }
                    Err(error) => Err(failed(&error)),
                }
            }
        }
    }
}
