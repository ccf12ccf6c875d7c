//! One check, asked as often as the test likes.

use std::time::Duration;

use skep_checks::check::Check;
use skep_checks::figure::Figure;
use skep_checks::kind::{self, Memory};
use skep_runtime::settings::{self, Faults};

/// Checks of a settings file.
pub(crate) fn checks(text: &str) -> Vec<Check> {
    let (mut top, noted) = settings::parse(text).unwrap();
    let checks = skep_checks::settings::read(&mut top);
    top.finish();
    if let Err(Faults(lines)) = noted.into_result() {
        panic!("{lines:?} in {text}");
    }
    checks
}

/// A check and what it remembers.
pub(crate) struct Asked {
    check: Check,
    memory: Memory,
    pub(crate) figures: Vec<Figure>,
}

impl Asked {
    /// By what stands in a `[[check]]` below its name.
    pub(crate) fn new(text: &str) -> Self {
        let check = checks(&format!("[[check]]\nname = \"it\"\n{text}")).remove(0);
        Self { check, memory: Memory::default(), figures: Vec::new() }
    }

    /// One run; why it is not well.
    pub(crate) async fn run(&mut self) -> Result<(), String> {
        self.figures.clear();
        let asked = kind::ask(&self.check.way, &mut self.memory, &mut self.figures);
        match tokio::time::timeout(self.check.timeout, asked).await {
            Ok(Ok(())) => self.check.limits.judge(&self.figures).map_or(Ok(()), Err),
            Ok(Err(fault)) => Err(skep_runtime::error::chain(&fault)),
            Err(_) => Err("timeout".to_owned()),
        }
    }

    /// Runs it until it is well, or is not any more.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&Result<(), String>) -> bool,
    ) -> Result<(), String> {
        for _ in 0..600 {
            let result = self.run().await;
            if wanted(&result) {
                return result;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited in vain for {what}: {:?}", self.run().await);
    }

    /// A figure of the last run.
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }
}
