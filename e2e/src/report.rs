//! Effects (prints): the list of checks with their outcome, one line each, and the closing count of passed and failed.

use std::future::Future;
use std::time::Instant;

use anyhow::Result;

/// Outcomes so far.
#[derive(Default)]
pub struct Checks {
    passed: u32,
    failures: Vec<(String, String)>,
}

impl Checks {
    /// Runs one check and prints its line; `Ok` carries a short text with the figures that were seen.
    pub async fn run(&mut self, name: &str, check: impl Future<Output = Result<String>>) -> bool {
        crate::progress::say(&format!("      {name} …"));
        let begun = Instant::now();
        let outcome = check.await;
        let took = begun.elapsed().as_secs_f32();
        match outcome {
            Ok(figures) => {
                self.passed += 1;
                crate::progress::say(&format!("ok    {name} ({took:.1} s) {figures}"));
                true
            }
            Err(error) => {
                let text = format!("{error:#}");
                crate::progress::say(&format!("FAIL  {name} ({took:.1} s) {text}"));
                self.failures.push((name.to_owned(), text));
                false
            }
        }
    }

    /// Prints the failures again and the closing line; true when nothing failed.
    pub fn close(self) -> bool {
        for (name, error) in &self.failures {
            crate::progress::say(&format!("FAIL  {name}: {error}"));
        }
        crate::progress::say(&format!(
            "{} passed, {} failed",
            self.passed,
            self.failures.len()
        ));
        self.failures.is_empty()
    }
}
