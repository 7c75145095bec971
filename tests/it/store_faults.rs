//! A database that fails at any one of its writes, under each verb: then nothing is done, nothing is half done, no
//! certificate leaves the process, and the same can be done once the fault is gone. Every bench proves at its end
//! that the log in memory and the one on disk are one.

use serde_json::{Value, json};

use crate::support::service::{Answer, Asked, Bench};

const TABLES: [&str; 9] =
    ["meta", "policies", "statements", "requests", "decisions", "certificates", "events", "log", "counters"];

/// Runs a verb under every fault there is, each time on a request of its own that `prepare` made. Gives the writes
/// that the verb cannot do without.
fn faults(prepare: impl Fn(&Bench) -> Asked, act: impl Fn(&Bench, &Asked) -> Answer) -> Vec<String> {
    let bench = Bench::new();
    let mut met = Vec::new();
    for table in TABLES {
        for write in ["INSERT", "UPDATE", "DELETE"] {
            let asked = prepare(&bench);
            let (rows, events, connection) = (bench.rows(), bench.events().len(), bench.sql());
            let fault =
                format!("CREATE TRIGGER fault BEFORE {write} ON {table} BEGIN SELECT RAISE(ABORT, 'fault'); END");
            connection.execute_batch(&fault).expect("a fault");
            let answer = act(&bench, &asked);
            connection.execute_batch("DROP TRIGGER fault").expect("no fault");
            if answer.status >= 400 {
                let what = format!("{write} {table}");
                assert_eq!((answer.status, answer.code().as_str()), (503, "store"), "{what}: {answer:?}");
                assert!(!answer.body.contains("fault") && !answer.body.contains("AAAA"), "{what}: {answer:?}");
                assert_eq!((bench.rows(), bench.events().len()), (rows, events), "{what}: something was done");
                act(&bench, &asked).ok();
                met.push(what);
            }
            // So that not too many wait.
            bench.withdraw(&asked);
        }
    }
    met
}

fn asked(bench: &Bench) -> Asked {
    bench.ask("alice", "web", &json!({}))
}

fn approved(bench: &Bench) -> Asked {
    let asked = asked(bench);
    bench.approve("carol", &asked).ok();
    asked
}

/// R03, A01, S03.
#[test]
fn what_cannot_be_stored_does_not_happen() {
    let approving = faults(asked, |bench, asked| bench.approve("carol", asked));
    assert_eq!(
        approving,
        ["INSERT statements", "UPDATE requests", "INSERT decisions", "INSERT events", "UPDATE log"],
        "an approval"
    );
    let denying = faults(asked, |bench, asked| bench.deny("carol", asked));
    assert_eq!(
        denying,
        ["INSERT statements", "UPDATE requests", "INSERT decisions", "INSERT events", "UPDATE log"],
        "a denial"
    );
    let claiming = faults(approved, Bench::claim);
    assert_eq!(
        claiming,
        ["INSERT statements", "UPDATE requests", "INSERT certificates", "INSERT events", "UPDATE log"],
        "a claim"
    );
    let claimed = |bench: &Bench| {
        let asked = approved(bench);
        bench.claim(&asked).ok();
        asked
    };
    let serial = |bench: &Bench, asked: &Asked| -> Value {
        let text: i64 = bench
            .sql()
            .query_row("SELECT serial FROM requests WHERE id = ?1", [asked.id.as_str()], |row| row.get(0))
            .expect("a serial");
        text.to_string().into()
    };
    let returning = faults(claimed, |bench, asked| bench.give_back(asked, &serial(bench, asked)));
    assert_eq!(returning, ["INSERT statements", "UPDATE requests", "INSERT events", "UPDATE log"], "a return");
}
