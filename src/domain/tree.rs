//! The Merkle tree over the log (RFC 6962, section 2.1): its root commits to every event, and a short
//! proof shows that one event is in it.

use sha2::{Digest as _, Sha256};

use super::digest::Digest;

/// The hash of a leaf: SHA-256 of 0x00 and its bytes.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::new().chain_update([0]).chain_update(leaf).finalize().into())
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let hash = Sha256::new().chain_update([1]).chain_update(left.as_bytes()).chain_update(right.as_bytes());
    Digest::from_bytes(hash.finalize().into())
}

/// The right edge of a growing tree: the roots of its complete subtrees, largest first. One leaf more
/// costs two hashes on average, whatever the size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    roots: Vec<Digest>,
}

impl Frontier {
    /// A frontier that was stored. `None` when the roots are not as many as a tree of this size has.
    pub fn from_parts(size: u64, roots: Vec<Digest>) -> Option<Self> {
        (size.count_ones() as usize == roots.len()).then_some(Self { size, roots })
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, largest first.
    pub fn roots(&self) -> &[Digest] {
        &self.roots
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            // There is a root for each bit that is set.
            if let Some(left) = self.roots.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// The tree's root. The root of no leaves is the hash of nothing.
    pub fn root(&self) -> Digest {
        let joined = self.roots.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        joined.unwrap_or_else(|| Digest::of(b""))
    }
}

impl FromIterator<Digest> for Frontier {
    fn from_iter<I: IntoIterator<Item = Digest>>(leaves: I) -> Self {
        let mut frontier = Self::default();
        leaves.into_iter().for_each(|leaf| frontier.push(leaf));
        frontier
    }
}

/// The audit path of leaf `index` (from 0), from the leaf up (RFC 6962, section 2.1.1).
pub fn inclusion_proof(leaves: &[Digest], index: usize) -> Vec<Digest> {
    if leaves.len() < 2 || index >= leaves.len() {
        return Vec::new();
    }
    let split = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(split);
    let root = |part: &[Digest]| part.iter().copied().collect::<Frontier>().root();
    if index < split {
        let mut path = inclusion_proof(left, index);
        path.push(root(right));
        path
    } else {
        let mut path = inclusion_proof(right, index - split);
        path.push(root(left));
        path
    }
}

/// Whether the path leads from the leaf to the root of a tree of `size` (RFC 9162, section 2.1.3.2).
pub fn verify_inclusion(leaf: &Digest, index: u64, size: u64, path: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

#[cfg(test)]
mod tests {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;

    use super::*;

    fn leaves(n: u32) -> Vec<Vec<u8>> {
        (0..n).map(|i| format!("event {i}").into_bytes()).collect()
    }

    #[test]
    fn roots_agree_with_another_implementation() {
        let (mut frontier, mut oracle) = (Frontier::default(), MemoryBackedTree::<Sha256, Vec<u8>>::new());
        assert_eq!(frontier.root().hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for leaf in leaves(300) {
            frontier.push(leaf_hash(&leaf));
            oracle.push(leaf);
            assert_eq!(frontier.root().as_bytes().as_slice(), oracle.root().as_bytes().as_slice());
            let restored = Frontier::from_parts(frontier.size(), frontier.roots().to_vec());
            assert_eq!(restored.as_ref(), Some(&frontier));
        }
    }

    /// A04, A05: a proof is for this leaf at this place in this tree, and for nothing else.
    #[test]
    fn proofs_hold_for_their_leaf_only() {
        let lone = leaf_hash(b"lone");
        assert!(verify_inclusion(&lone, 0, 1, &[], &lone));
        assert!(!verify_inclusion(&lone, 0, 2, &[], &lone), "a path is as long as its tree is high");
        for size in 1..40usize {
            let hashes: Vec<Digest> = leaves(size as u32).iter().map(|l| leaf_hash(l)).collect();
            let root = hashes.iter().copied().collect::<Frontier>().root();
            for index in 0..size {
                let path = inclusion_proof(&hashes, index);
                let verify = |leaf: &Digest, at: usize, n: usize, path: &[Digest], root: &Digest| {
                    verify_inclusion(leaf, at as u64, n as u64, path, root)
                };
                assert!(verify(&hashes[index], index, size, &path, &root));
                assert!(!verify(&leaf_hash(b"other"), index, size, &path, &root));
                assert!(!verify(&hashes[index], index + size, size, &path, &root));
                assert!(!verify(&hashes[index], index, size, &path, &Digest::of(b"x")));
                if size > 1 {
                    assert!(!verify(&hashes[index], (index + 1) % size, size, &path, &root));
                    assert!(!verify(&hashes[index], index, size, &path[1..], &root));
                }
            }
        }
    }
}
