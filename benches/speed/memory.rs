//! What is in memory: at rest, and with many large pulls and pushes at once.

use crate::blob::{Blob, MIB};
use crate::comparison::{Amount, Comparison, Contender};
use crate::load::exchange::request;
use crate::load::streams;
use crate::processors::Processors;
use crate::program::Program;
use crate::pull::name;
use crate::reach::Wanted;
use crate::report::Report;
use crate::setting::Setting;

/// How often it is done; the most that ever was counts.
const ROUNDS: usize = 2;

/// Measures.
pub(crate) fn report(setting: &Setting, report: &mut Report) {
    let (bytes, pulls, pushes) = setting.or_quick((1 << 30, 64, 16), (4 * MIB, 8, 2));
    let all = Processors::all();
    let start = [Program::orlop, Program::docker_registry];
    let idle = start.map(|start| {
        let program = start(setting, &all);
        request(program.address(), "GET", "/v2/").read();
        program.memory().expect("it runs here")
    });
    report.note(format!(
        "In memory at rest, after a first request: orlop {} MiB, docker-registry {} MiB.",
        idle[0] >> 20,
        idle[1] >> 20
    ));
    report.reach("memory at rest", "", Wanted::AtMost(20.0), mebibytes(idle[0]), "MiB");

    let pulled = Blob::new(bytes);
    let sent: Vec<Blob> = (0..pushes).map(|_| Blob::new(bytes)).collect();
    let title = format!("Memory with {pulls} pulls and {pushes} pushes of {} at once", name(bytes));
    let mut comparison = Comparison::new(title, "at once", Amount::Bytes);
    let contenders = start.map(|start| {
        let (pulled, sent, all) = (&pulled, &sent, &all);
        let name = start(setting, all).name().to_owned();
        Contender::new(name, move |_| {
            let program = start(setting, all);
            pulled.push(&program);
            streams(&program, pulls + pushes, true, |client| match client.checked_sub(pulls) {
                None => {
                    let answer = request(program.address(), "GET", &pulled.target());
                    assert_eq!(answer.status(), 200, "{}: a pull", program.name());
                    answer.read()
                }
                Some(number) => {
                    let blob = &sent[usize::try_from(number).expect("there are few")];
                    blob.push(&program);
                    blob.len()
                }
            })
        })
    });
    #[expect(clippy::cast_precision_loss, reason = "a place on an axis")]
    let x = (pulls + pushes) as f64;
    let label = format!("{pulls} + {pushes}");
    comparison.alternate(setting.rounds.min(ROUNDS), x, label.clone(), Vec::from(contenders));
    let summary = report.add(&comparison);
    let peak = summary.of(&label, "orlop").peak_memory.unwrap_or(u64::MAX);
    let work = format!("memory with {pulls} pulls and {pushes} pushes of {} at once", name(bytes));
    report.reach(&work, "", Wanted::AtMost(64.0), mebibytes(peak), "MiB");
}

#[expect(clippy::cast_precision_loss, reason = "two digits are read")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}
