//! `podgrant completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::exit::Exit;
use crate::ui::Ui;

pub fn run(ui: &mut Ui<'_>, shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "podgrant", &mut script);
    ui.raw(&script);
    Exit::Done
}
