//! A bounded memory of answers that never change: what was worked out once need not be again. When it is full
//! the older half is forgotten. Nothing may rest on it: what it does not know is worked out anew.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Remembers `capacity` to twice `capacity` answers; with 0 it remembers none.
#[derive(Debug)]
pub struct Remembered<K, V> {
    generations: Mutex<Generations<K, V>>,
    capacity: usize,
}

#[derive(Debug)]
struct Generations<K, V> {
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> Remembered<K, V> {
    /// An empty one.
    pub fn new(capacity: usize) -> Self {
        let generations = Mutex::new(Generations { newer: HashMap::new(), older: HashMap::new() });
        Self { generations, capacity }
    }

    /// The answer, if it is remembered.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, question: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.newer.get(question).or_else(|| generations.older.get(question)).cloned()
    }

    /// Remembers an answer.
    pub fn insert(&self, question: K, answer: V) {
        if self.capacity == 0 {
            return;
        }
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.newer.len() >= self.capacity {
            generations.older = std::mem::take(&mut generations.newer);
        }
        generations.newer.insert(question, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_forgets_the_oldest() {
        let memory = Remembered::new(3);
        for number in 0..10 {
            memory.insert(number, number * 2);
        }
        assert_eq!(memory.get(&9), Some(18));
        assert_eq!(memory.get(&6), Some(12));
        assert_eq!(memory.get(&0), None);
        let held = memory.generations.lock().unwrap();
        assert!(held.newer.len() + held.older.len() <= 6);
        drop(held);
        let none = Remembered::new(0);
        none.insert(1, 1);
        assert_eq!(none.get(&1), None);
    }
}
