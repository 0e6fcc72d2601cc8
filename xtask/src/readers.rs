//! Files that Parlor wrote, read by the programs they are meant for, from a git-ignored virtual environment that
//! this step makes itself.
