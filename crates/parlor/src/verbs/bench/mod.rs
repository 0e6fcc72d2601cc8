//! `parlor bench`: benchmarks this machine, and a model against the machine's limits.

mod against;
mod shapes;
mod work;

use std::time::Instant;

use parlor::kernels::DType;
use parlor::kernels::cpu::roofline::{self, Roofline};
use parlor::kernels::parallel::threads;
use parlor::model::Architecture;
use parlor::model::{DecoderConfig, WeightLayout, memory};
use serde::Serialize;

use crate::cli::{BenchArgs, BenchWork, ModelArgs};
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::{self, OnInterrupt};
use crate::model::load_in;
use crate::output::note;
use against::{Compared, Comparison, Peer, Task};
use shapes::{DTYPES, SHAPES};
use work::{Measurement, Subject};

/// Largest buffer for measuring memory bandwidth: more than the caches of any processor.
const READ: u64 = 1 << 30;

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    limits: Peaks,
    model: String,
    dtype: &'static str,
    results: Vec<Measurement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Comparison>,
}

#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    threads: usize,
    memory_bytes: Option<u64>,
}

/// [`Roofline`] in customary units.
#[derive(Debug, Serialize)]
struct Peaks {
    read_gb_per_second: f64,
    f32_gflops: f64,
    bf16_gflops: Option<f64>,
    int8_gops: Option<f64>,
}

impl From<Roofline> for Peaks {
    fn from(limits: Roofline) -> Self {
        let giga = |x: f64| x / 1e9;
        Self {
            read_gb_per_second: giga(limits.read),
            f32_gflops: giga(limits.f32),
            bf16_gflops: limits.bf16.map(giga),
            int8_gops: limits.int8.map(giga),
        }
    }
}

pub(super) fn run(context: &Context, args: &BenchArgs) -> Result<(), Failure> {
    let choice = Choice::of(args)?;
    // The instruction set to measure with.
    context.config()?;
    interrupt::watch(OnInterrupt::Exit);
    note("measuring the machine");
    let free = memory::available_bytes();
    let reading = free.map_or(READ, |free| (free / 4).min(READ)) as usize;
    let limits = work::limits(reading)?;
    let machine =
        Machine { processor: roofline::processor_name(), threads: threads::count(), memory_bytes: free };
    let wanted = |work: BenchWork| args.only.is_empty() || args.only.contains(&work);
    let start = Instant::now();
    let mut subject = choice.make(context, reading)?;
    // Found before any work is measured.
    let peer = match args.against {
        Some(peer) => Some(Peer::find(peer, args.peer.as_deref(), args.model.as_deref(), &subject)?),
        None => None,
    };
    let dtype = DTYPES.iter().find(|(_, dtype)| *dtype == subject.dtype).map_or("mixed", |(name, _)| name);
    subject.decoder.optimize_for_inference();
    let mut results = Vec::new();
    if let Some(peer) = peer {
        let tasks = Task::of(&args.only);
        let comparison = against::compare(&peer, &tasks, args.rounds as usize, |task| match task {
            Task::Prefill => subject.prefill(),
            Task::Decode(sequences) => subject.decode(sequences),
            Task::Train | Task::Lora => choice.make(context, reading)?.train(task == Task::Lora),
        })?;
        let report = Report {
            machine,
            limits: limits.into(),
            model: choice.name(),
            dtype,
            results,
            against: Some(comparison),
        };
        return context.output.result(&report, || text(&report));
    }
    if wanted(BenchWork::Load) && args.model.is_some() {
        results.push(Measurement::new("load", start.elapsed().as_secs_f64(), "s", None));
        subject.first_token()?;
        results.push(Measurement::new("load and first token", start.elapsed().as_secs_f64(), "s", None));
    }
    if wanted(BenchWork::Prefill) {
        note("measuring prefill");
        results.push(subject.prefill()?);
    }
    if wanted(BenchWork::Decode) {
        for sequences in [1, 8] {
            note(&format!("measuring decode at {sequences}"));
            results.push(subject.decode(sequences)?);
        }
    }
    drop(subject);
    for (work, lora) in [(BenchWork::Lora, true), (BenchWork::Train, false)] {
        if wanted(work) {
            note("measuring a training step");
            results.push(choice.make(context, reading)?.train(lora)?);
        }
    }
    let report =
        Report { machine, limits: limits.into(), model: choice.name(), dtype, results, against: None };
    context.output.result(&report, || text(&report))
}

/// What is measured.
enum Choice {
    /// A model on disk.
    Model { name: String, dtype: Option<DType> },
    /// A shape with random weights.
    Shape { name: String, architecture: Architecture, config: Box<DecoderConfig>, dtype: DType },
}

impl Choice {
    fn of(args: &BenchArgs) -> Result<Self, Failure> {
        let dtype = match &args.dtype {
            None => None,
            Some(name) => match DTYPES.iter().find(|(known, _)| known == name) {
                Some((_, dtype)) => Some(*dtype),
                None => return Err(unknown("--dtype", &DTYPES.map(|(name, _)| name))),
            },
        };
        if let Some(name) = &args.model {
            return Ok(Self::Model { name: name.clone(), dtype });
        }
        let name = args.shape.as_deref().unwrap_or(SHAPES[0]).to_owned();
        let Some((architecture, config)) = shapes::shape(&name) else {
            return Err(unknown("--shape", &SHAPES));
        };
        let (config, dtype) = (Box::new(config), dtype.unwrap_or(DType::Bf16));
        Ok(Self::Shape { name, architecture, config, dtype })
    }

    fn name(&self) -> String {
        match self {
            Self::Model { name, .. } => name.clone(),
            Self::Shape { name, .. } => format!("{name}, weights made up"),
        }
    }

    fn make(&self, context: &Context, reading: usize) -> Result<Subject, Failure> {
        match self {
            Self::Model { name, dtype } => {
                let model = ModelArgs { model: Some(name.clone()), ..ModelArgs::default() };
                let loaded = load_in(WeightLayout::Stored, context, &model)?;
                let mut decoder = loaded.decoder.clone();
                if let Some(dtype) = dtype {
                    decoder = decoder.to_dtype(*dtype);
                }
                let largest = decoder.parameters().iter().max_by_key(|parameter| parameter.spec.len());
                let dtype = largest.map_or(DType::F32, |largest| largest.tensor.dtype());
                Ok(Subject { architecture: loaded.architecture, decoder, dtype, reading })
            }
            Self::Shape { architecture, config, dtype, .. } => {
                let decoder = shapes::decoder((**config).clone(), *dtype)
                    .map_err(|error| Failure::failed(error.to_string()))?;
                Ok(Subject { decoder, architecture: *architecture, dtype: *dtype, reading })
            }
        }
    }
}

fn unknown(flag: &str, known: &[&str]) -> Failure {
    Failure::input_help(format!("there is no such `{flag}`"), format!("one of {}", known.join(", ")))
}

fn line(measured: &Measurement) -> String {
    let Measurement { name, value, unit, limit, percent_of_limit, .. } = measured;
    let beside = match (limit, percent_of_limit) {
        (Some(limit), Some(percent)) => format!("  of {limit:.1} at most, {percent:.0}%"),
        _ => String::new(),
    };
    format!("{name:<28} {value:>9.1} {unit}{beside}")
}

fn text(report: &Report) -> String {
    let Report { machine, limits, model, dtype, results, against } = report;
    let one = |value: Option<f64>| value.map_or("none".to_owned(), |value| format!("{value:.0} G/s"));
    let mut out = format!(
        "{}, {} threads\nreading {:.1} GB/s; f32 {:.0} G/s, bf16 {}, int8 {} (operations)\n{model}, {dtype}\n\n",
        machine.processor,
        machine.threads,
        limits.read_gb_per_second,
        limits.f32_gflops,
        one(limits.bf16_gflops),
        one(limits.int8_gops),
    );
    for measured in results {
        out.push_str(&line(measured));
        out.push('\n');
    }
    for compared in against.iter().flat_map(|against| &against.results) {
        let Compared { name, unit, own_median, peer_median, ratio, .. } = compared;
        out.push_str(&format!("{name:<28} {own_median:>9.1} against {peer_median:.1} {unit}: {ratio:.2}\n"));
    }
    out
}
