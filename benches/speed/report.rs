//! What comes out: Markdown for people, JSON for programs, and charts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use orlop::clock::{Clock, SystemClock};
use serde::{Deserialize, Serialize};

use crate::comparison::{Comparison, Summary};
use crate::reach::{self, Reach, Wanted};
use crate::setting::Setting;
use crate::{PARTS, chart, machine};

/// What was measured, by part. Parts that weren't measured this time stay as they were measured last.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    parts: BTreeMap<String, Section>,
    #[serde(skip)]
    current: String,
}

/// What one part has measured.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Section {
    machine: String,
    /// The day, and how busy the machine was.
    when: String,
    comparisons: Vec<Summary>,
    notes: Vec<String>,
    reach: Vec<Reach>,
}

impl Report {
    /// What an earlier run in the same folder left.
    pub(crate) fn continued(out: &Path) -> Report {
        let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let text =
            [out, &published].iter().find_map(|folder| fs::read_to_string(folder.join("speed.json")).ok());
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Begins the part with this name.
    pub(crate) fn begin(&mut self, part: &str) {
        part.clone_into(&mut self.current);
        let now = SystemClock.now().to_string();
        let day = now.split('T').next().unwrap_or_default();
        let section = Section {
            machine: machine::describe(),
            when: format!("{day}, {}", machine::load()),
            ..Section::default()
        };
        self.parts.insert(part.to_owned(), section);
    }

    /// Adds a comparison to the part, and returns its figures.
    pub(crate) fn add(&mut self, comparison: &Comparison) -> Summary {
        let summary = comparison.summary();
        self.section().comparisons.push(summary.clone());
        summary
    }

    /// Adds a paragraph to the part.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.section().notes.push(text.into());
    }

    /// Adds a row to the table of what was to be reached.
    pub(crate) fn reach(&mut self, work: &str, against: &str, wanted: Wanted, got: f64, unit: &str) {
        let [work, against, unit] = [work, against, unit].map(str::to_owned);
        self.section().reach.push(Reach { work, against, wanted, got, unit });
    }

    fn section(&mut self) -> &mut Section {
        self.parts.entry(self.current.clone()).or_default()
    }

    fn sections(&self) -> impl Iterator<Item = &Section> {
        PARTS.iter().filter_map(|(name, _)| self.parts.get(*name))
    }

    /// Keeps the figures, so that a run that is ended early has those of its finished parts. Returns them as JSON.
    pub(crate) fn keep(&self, setting: &Setting) -> String {
        let json = serde_json::to_string_pretty(self).expect("it is JSON");
        fs::create_dir_all(&setting.out).expect("a folder can be made");
        // At another name, so that one half written is never taken for a whole one.
        let making = setting.out.join("speed.json.making");
        fs::write(&making, &json).expect("the figures can be written");
        fs::rename(making, setting.out.join("speed.json")).expect("it can be renamed");
        json
    }

    /// Prints the report, and writes it.
    pub(crate) fn finish(&self, setting: &Setting) {
        let table = reach::table(self.sections().flat_map(|section| &section.reach));
        let text = self.markdown();
        println!("{table}\n\n{text}");
        let json = self.keep(setting);
        let reach: Vec<&Reach> = self.sections().flat_map(|section| &section.reach).collect();
        let summaries: Vec<&Summary> = self.sections().flat_map(|section| &section.comparisons).collect();
        let charts = [("speed.svg", chart::reached(&reach)), ("curves.svg", chart::curves(&summaries))];
        let write = |folder: &Path, name: &str, text: &str| {
            fs::write(folder.join(name), text).expect("the report can be written");
        };
        write(&setting.out, "speed.md", &format!("{table}\n\n{text}"));
        for (name, chart) in &charts {
            write(&setting.out, name, chart);
        }
        eprintln!("written to {}", setting.out.display());
        if setting.publish {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let docs = root.join("docs");
            write(&docs, "speed.json", &json);
            for (name, chart) in &charts {
                write(&docs, name, chart);
            }
            put_into(&root.join("README.md"), &table);
            put_into(&docs.join("performance.md"), &format!("{table}\n\n{text}"));
        }
    }

    /// All comparisons and notes.
    fn markdown(&self) -> String {
        let mut parts = Vec::new();
        for section in self.sections() {
            for comparison in &section.comparisons {
                parts.push(format!("### {}", comparison.title));
                let rows = comparison.points.iter().flat_map(|point| point.rows(comparison.amount));
                let head = comparison.amount.head(&comparison.axis);
                parts.push(std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n"));
            }
            parts.extend(section.notes.iter().cloned());
            parts.push(format!("{}; {}", section.machine, section.when));
        }
        parts.join("\n\n")
    }
}

/// What a document has between these marks comes from a report.
const BEGIN: &str = "<!-- speed -->\n";
const END: &str = "<!-- /speed -->";

fn put_into(document: &Path, table: &str) {
    let text = fs::read_to_string(document).expect("the document can be read");
    let begin = text.find(BEGIN).map(|at| at + BEGIN.len());
    let end = text.find(END);
    let (Some(begin), Some(end)) = (begin, end) else { panic!("{}: no {BEGIN}", document.display()) };
    let text = format!("{}\n{table}\n\n{}", &text[..begin], &text[end..]);
    fs::write(document, text).expect("the document can be written");
}
