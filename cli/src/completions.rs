//! `vltava completions`: a shell's completion script on standard output.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::CliResult;
use crate::output;

/// Print a shell's completion script
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vltava completions bash > ~/.local/share/bash-completion/completions/vltava
  vltava completions zsh > ~/.zfunc/_vltava
  vltava completions fish > ~/.config/fish/completions/vltava.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> CliResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vltava", &mut script);
    output::write_out(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vltava", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("replication-factor"), "{shell}");
        }
    }
}
