//! What the reader of the terminal sees.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::{Cart, Failure};

pub(super) struct Stage<'a> {
    out: &'a mut dyn Write,
    colours: bool,
    claims: usize,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";
const CYAN: &str = "36";

impl<'a> Stage<'a> {
    pub(super) fn new(out: &'a mut dyn Write, colours: bool) -> Self {
        Self { out, colours, claims: 0 }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn title(&mut self, text: &str) -> io::Result<()> {
        let title = self.paint(BOLD, text);
        writeln!(self.out, "\n{title}\n")
    }

    pub(super) fn act(&mut self, text: &str) -> io::Result<()> {
        let line = format!("── {text} {}", "─".repeat(72_usize.saturating_sub(text.chars().count())));
        let line = self.paint(CYAN, &line);
        writeln!(self.out, "\n{line}")
    }

    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "   {text}")
    }

    pub(super) fn show(&mut self, who: &str, cart: &Cart) -> io::Result<()> {
        let items = self.items(cart);
        writeln!(self.out, "   {who:<24} {items}")
    }

    fn items(&self, cart: &Cart) -> String {
        let mut items = String::new();
        for item in cart {
            let _ = write!(items, "{}  ", self.paint(BOLD, item));
        }
        items.trim_end().to_owned()
    }

    /// One line of the summary.
    pub(super) fn row(&mut self, rule: &str, cart: &Cart, losses: &str) -> io::Result<()> {
        let items: Vec<&str> = cart.iter().map(String::as_str).collect();
        let colour = if losses == "nothing is lost" { GREEN } else { RED };
        let losses = if losses.is_empty() { String::new() } else { self.paint(colour, losses) };
        let line = format!("   {rule:<24} {:<26} {losses}", items.join("  "));
        writeln!(self.out, "{}", line.trim_end())
    }

    /// States something that has been checked.
    pub(super) fn claim(&mut self, what: &str, holds: bool) -> Result<(), Failure> {
        if !holds {
            writeln!(self.out, "   {} {what}", self.paint(RED, "✗"))?;
            return Err(format!("not so: {what}").into());
        }
        self.claims += 1;
        let (tick, what) = (self.paint(GREEN, "✓"), self.paint(DIM, what));
        Ok(writeln!(self.out, "   {tick} {what}")?)
    }

    pub(super) fn end(&mut self) -> Result<(), Failure> {
        Ok(writeln!(self.out, "\n   {} claims, all checked\n", self.claims)?)
    }
}
