//! `podgrant man`.

use clap::CommandFactory;

use crate::arguments::Arguments;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::ui::Ui;

pub fn run(ui: &mut Ui<'_>, about: Option<&str>) -> Result<Exit, Problem> {
    let mut all = Arguments::command();
    all.build();
    let command = match about {
        None => all,
        Some(name) => all.find_subcommand(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = all.get_subcommands().map(clap::Command::get_name).collect();
            Problem::usage(
                format!("there is no command {name}"),
                format!("the commands are {}", names.join(", ")),
            )
        })?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Problem::failed(format!("the page can't be made: {error}"), ""))?;
    ui.raw(&page);
    Ok(Exit::Done)
}
