//! `cargo xtask completions`: scripts by which a shell completes our options.
//!
//! Shells complete `cargo`, not `cargo xtask`. The script for bash wraps the completion of `cargo`; those for
//! other shells complete a function `xtask`, which is printed with them.

use clap::Command;
use clap_complete::Shell;
use harness::terminal::out;

use crate::exit::Exit;

/// Completes `cargo xtask …` in bash, and leaves the rest of `cargo` to the previous completion.
const BASH: &str = r#"
_cargo_before_xtask=$(complete -p cargo 2>/dev/null | sed -n 's/.*-F \([^ ]*\) .*/\1/p')
_cargo_with_xtask() {
    if [[ ${COMP_WORDS[1]} == xtask && $COMP_CWORD -gt 1 ]]; then
        COMP_WORDS=("${COMP_WORDS[@]:1}")
        COMP_CWORD=$((COMP_CWORD - 1))
        _xtask xtask "$2" "$3"
    elif [[ -n $_cargo_before_xtask ]]; then
        "$_cargo_before_xtask" "$@"
    fi
}
complete -F _cargo_with_xtask -o bashdefault -o default cargo
"#;

/// The function that other shells complete.
const FUNCTION: &str = "\nxtask() { cargo xtask \"$@\"; }\n";
const FUNCTION_FISH: &str = "\nfunction xtask; cargo xtask $argv; end\n";

pub(crate) fn run(command: Command, shell: Shell) -> Exit {
    let mut script = Vec::new();
    let mut command = command.name("xtask").bin_name("xtask");
    clap_complete::generate(shell, &mut command, "xtask", &mut script);
    out(&String::from_utf8_lossy(&script));
    out(match shell {
        Shell::Bash => BASH,
        Shell::Zsh | Shell::Elvish => FUNCTION,
        Shell::Fish => FUNCTION_FISH,
        _ => "",
    });
    Exit::Passed
}
