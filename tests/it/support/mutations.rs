//! A small mutator: what a fuzzer does to its inputs, but the same on every run.

/// Numbers that look random and are the same on every run (xorshift64*).
pub(crate) struct Mutator(u64);

/// What formats here are made of.
const WORDS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "0",
    "1e9",
    "9223372036854775807",
    "\\u0000",
    "\u{202e}",
    "\n",
    " ",
    "=",
    "@",
    "\0\0\0\0",
    "\u{7f}\u{7f}\u{7f}\u{7f}",
    "SHA256:",
    "ssh-ed25519",
    "\0\0\0\x01",
];

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `end`; 0 when there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// One of these inputs, changed in one to four places.
    pub(crate) fn mutated(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let one = inputs[self.below(inputs.len())].clone();
        self.mutated_one(&one, inputs)
    }

    /// This one, with parts of the others.
    pub(crate) fn mutated_one(&mut self, one: &[u8], inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = one.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, inputs);
        }
        bytes
    }

    /// A part of `bytes`, short more often than long.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let longest = if self.below(4) == 0 { length - start } else { (length - start).min(8) };
        start..start + self.below(longest + 1)
    }

    fn change(&mut self, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let (part, at) = (self.part(bytes.len()), self.below(bytes.len()));
        match self.below(8) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b' '][self.below(7)],
            3 => drop(bytes.drain(part)),
            4 => {
                let copy = bytes[part].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
            6 => {
                let other = &inputs[self.below(inputs.len())];
                let taken = other[self.part(other.len())].to_vec();
                bytes.splice(part, taken);
            }
            // A length or count of four bytes.
            _ => {
                let number = [0u32, 1, 255, 65_536, 1 << 31, u32::MAX][self.below(6)];
                let end = (at + 4).min(bytes.len());
                bytes.splice(at..end, number.to_be_bytes());
            }
        }
    }
}
