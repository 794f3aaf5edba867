//! What is measured of a part, in time and in instructions alike.

/// One thing that a part does, made ready to be done over and over.
pub(crate) struct Case {
    /// The part, and what of it.
    pub(crate) name: &'static str,
    /// How many bytes one round works through, where that is its size.
    pub(crate) bytes: Option<u64>,
    /// How many rounds are counted: enough that a single instruction of one round is a small part of the sum.
    pub(crate) rounds: u32,
    /// The function whose instructions are counted, as a pattern of its name.
    pub(crate) counted: &'static str,
    /// One round.
    pub(crate) run: Box<dyn FnMut()>,
}

/// Where all of a case's work is done by whoever calls it: everything between its begin and its end.
pub(crate) const ROUNDS: &str = "*counted_rounds*";

impl Case {
    /// A case whose work is done on the calling thread.
    pub(crate) fn new(name: &'static str, rounds: u32, run: impl FnMut() + 'static) -> Case {
        Case { name, bytes: None, rounds, counted: ROUNDS, run: Box::new(run) }
    }

    /// The same, of so many bytes.
    pub(crate) fn with_bytes(self, bytes: usize) -> Case {
        Case { bytes: Some(bytes as u64), ..self }
    }
}
