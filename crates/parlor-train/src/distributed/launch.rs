//! The rank of a process, from the environment variables of its launcher: `torchrun` and its like (`RANK`,
//! `WORLD_SIZE`), Open MPI, MPICH and Intel MPI, Slurm.

use std::fmt;

/// What started the ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Open MPI's `mpirun`.
    OpenMpi,
    /// MPICH's or Intel MPI's.
    Mpich,
    /// `srun`.
    Slurm,
    /// `torchrun`, Accelerate, DeepSpeed, the Kubernetes training operator.
    Torchrun,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Launcher::OpenMpi => "Open MPI's `mpirun`",
            Launcher::Mpich => "MPICH's `mpirun`",
            Launcher::Slurm => "Slurm's `srun`",
            Launcher::Torchrun => "the variables RANK and WORLD_SIZE",
        })
    }
}

/// Rank of this process among those that were launched together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The launcher.
    pub launcher: Launcher,
    /// Number of this rank, from 0.
    pub rank: usize,
    /// Number of ranks.
    pub world_size: usize,
    /// Ranks on this machine, which share its cores; 1 when the launcher does not say.
    pub local_world_size: usize,
    /// `MASTER_ADDR` with `MASTER_PORT`, where rank 0 is found.
    pub master: Option<String>,
}

/// Variables of the rank, the number of ranks, and the number of ranks on this machine. Slurm's are those of
/// a step of `srun`, because a batch script has `SLURM_NTASKS` too and is one process.
const VARIABLES: [(Launcher, &str, &str, &str); 4] = [
    (Launcher::OpenMpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    (Launcher::Mpich, "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"),
    (Launcher::Torchrun, "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    (Launcher::Slurm, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE"),
];

impl Launch {
    /// Reads the variables through `variable`; none when they name no rank.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| {
            let value = variable(name)?;
            // Slurm writes `2(x4)`: two tasks on each of four machines.
            let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
            value[..digits].parse::<usize>().ok()
        };
        VARIABLES.iter().find_map(|&(launcher, rank, world_size, local)| {
            let (rank, world_size) = (number(rank)?, number(world_size)?);
            let master = variable("MASTER_ADDR").map(|address| match variable("MASTER_PORT") {
                Some(port) => format!("{address}:{port}"),
                None => address,
            });
            let local_world_size = number(local).unwrap_or(1).max(1);
            (rank < world_size).then_some(Self { launcher, rank, world_size, local_world_size, master })
        })
    }
}
