//! What goes to which stream, and how it looks there.

use std::io::{BufRead, Write};

use serde::Serialize;

use crate::arguments::Output;
use crate::problem::Problem;
use crate::surroundings::Terminal;

/// The shape of all JSON that is put out. It grows by fields; another meaning is another number.
pub const JSON_VERSION: u32 = 1;

/// The streams. Results go to standard output, all else to the other; where the result is JSON, what is shown to a
/// person goes there too.
pub struct Ui<'a> {
    out: &'a mut dyn Write,
    errors: &'a mut dyn Write,
    answers: &'a mut dyn BufRead,
    terminal: Terminal,
    pub output: Output,
    colours: bool,
    progress_stands: bool,
}

/// How a piece of text looks on a terminal.
#[derive(Debug, Clone, Copy)]
pub enum Look {
    Bold,
    Green,
    Red,
    Yellow,
    Dim,
}

impl Look {
    /// As the sign at the beginning of a change's line wants it.
    pub fn of_sign(line: &str) -> Self {
        match line.chars().next() {
            Some('+') => Self::Green,
            Some('-') => Self::Red,
            Some('.' | '=') => Self::Dim,
            Some('>') => Self::Bold,
            _ => Self::Yellow,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Bold => 1,
            Self::Dim => 2,
            Self::Red => 31,
            Self::Green => 32,
            Self::Yellow => 33,
        }
    }
}

impl<'a> Ui<'a> {
    /// `colours`: whether they are wanted where a terminal shows them.
    pub fn new(
        out: &'a mut dyn Write,
        errors: &'a mut dyn Write,
        answers: &'a mut dyn BufRead,
        terminal: Terminal,
        output: Output,
        colours: bool,
    ) -> Self {
        Self { out, errors, answers, terminal, output, colours, progress_stands: false }
    }

    /// Whether there is somebody to ask.
    pub fn can_ask(&self) -> bool {
        self.terminal.input
    }

    /// One line of what is for a person to read.
    pub fn show(&mut self, line: &str) {
        self.clear_progress();
        // Whoever closed the stream does not want the rest.
        let _ = match self.output {
            Output::Text => writeln!(self.out, "{line}"),
            Output::Json => writeln!(self.errors, "{line}"),
        };
    }

    /// The result, for a program to read.
    pub fn json(&mut self, result: &impl Serialize) {
        self.clear_progress();
        if self.output == Output::Json {
            let text = serde_json::to_string_pretty(result).unwrap_or_default();
            let _ = writeln!(self.out, "{text}");
        }
    }

    /// What is put out as it is, whatever the output.
    pub fn raw(&mut self, bytes: &[u8]) {
        let _ = self.out.write_all(bytes);
    }

    /// One line beside the result.
    pub fn say(&mut self, line: &str) {
        self.clear_progress();
        let _ = writeln!(self.errors, "{line}");
    }

    /// What is being done, for a person who waits.
    pub fn progress(&mut self, text: &str) {
        if self.terminal.errors {
            let _ = write!(self.errors, "\r\x1b[K{text}");
            let _ = self.errors.flush();
            self.progress_stands = true;
        }
    }

    fn clear_progress(&mut self) {
        if std::mem::take(&mut self.progress_stands) {
            let _ = write!(self.errors, "\r\x1b[K");
        }
    }

    pub fn problem(&mut self, problem: &Problem) {
        self.say(&format!("podgrant: {}", problem.message));
        if !problem.remedy.is_empty() {
            self.say(&format!("  {}", problem.remedy));
        }
        #[derive(Serialize)]
        struct Shape<'p> {
            version: u32,
            error: &'p Problem,
        }
        self.json(&Shape { version: JSON_VERSION, error: problem });
    }

    /// Asks, and takes nothing but `yes` for a yes.
    pub fn agrees(&mut self, question: &str) -> bool {
        self.asks(&format!("{question} Only yes is a yes: ")) == "yes"
    }

    /// Asks, and returns what was typed; nothing where nothing could be read.
    pub fn asks(&mut self, question: &str) -> String {
        self.clear_progress();
        let _ = write!(self.errors, "{question}");
        let _ = self.errors.flush();
        let mut answer = String::new();
        let read = self.answers.read_line(&mut answer);
        read.map(|_| answer.trim().to_owned()).unwrap_or_default()
    }

    pub fn look(&self, look: Look, text: &str) -> String {
        let on_terminal = match self.output {
            Output::Text => self.terminal.out,
            Output::Json => self.terminal.errors,
        };
        if self.colours && on_terminal {
            format!("\x1b[{}m{text}\x1b[0m", look.code())
        } else {
            text.to_owned()
        }
    }
}
