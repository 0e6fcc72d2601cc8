//! `parlor eval`: loss and perplexity of a model on data.

use parlor::train::{EvaluateRequest, evaluate};

use crate::cli::EvalArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::{self, OnInterrupt, STOP};
use crate::model::{adapters, max_length, section};
use crate::progress::grouped;

pub(super) fn run(context: &Context, args: &EvalArgs) -> Result<(), Failure> {
    let config = context.config()?;
    let model = section(context, &args.model)?;
    let request = EvaluateRequest {
        max_length: max_length(context, &model)?,
        model,
        adapters: adapters(&args.model)?,
        data_path: args.data.clone(),
        data: config.data.clone(),
        train_on: config.training.sft.train_on,
        batch_size: config.training.hyperparameters().per_device_eval_batch_size,
        threads: config.training.dataloader_num_workers,
    };
    interrupt::watch(OnInterrupt::Finish(""));
    let evaluated = evaluate(&request, &STOP).map_err(|error| context.run_failure(error))?;
    let Some(summary) = evaluated else { return Err(Failure::interrupted()) };
    context.output.result(&summary, || {
        format!(
            "loss {:.4}, perplexity {:.3}, over {} tokens ({} tokens/s)",
            summary.loss,
            summary.perplexity,
            grouped(summary.tokens),
            grouped(summary.tokens_per_second.round() as u64)
        )
    })
}
