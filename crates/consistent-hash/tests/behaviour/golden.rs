//! What each function gives, by its name and version: two processes of two releases must agree.

use serde_json::{Value as Json, json};
use stackbeam_consistent_hash::{
    Anchor, KeyHash, Members, MultiProbe, NodeIx, Placement, Rendezvous, Ring, SlotTable, Xxh64,
};

use crate::{hash, names};

const GOLDEN: &str = include_str!("../golden/placement-1.json");

fn owners(members: &Members, placement: &dyn Placement) -> String {
    (0..48)
        .map(|n| {
            let mut two = [NodeIx::default(); 2];
            placement.owners(hash(n), &mut two);
            two.map(|node| members[node].name().replace("node-", ""))
                .concat()
        })
        .collect()
}

#[test]
fn placement_never_changes() {
    let equal = names(7);
    let id = equal.iter().next().unwrap().id();
    let weighted = equal.update(id, |member| member.with_weight(2.5)).unwrap();
    let mut got = serde_json::Map::new();
    for (kind, members) in [("equal", &equal), ("weighted", &weighted)] {
        let table = SlotTable::with_slots(members, 640, 0.05).unwrap();
        let ring = Ring::new(members).unwrap();
        let rendezvous = Rendezvous::new(members).unwrap();
        let probes = MultiProbe::new(members).unwrap();
        for (name, placement, fingerprint) in [
            (
                SlotTable::NAME,
                &table as &dyn Placement,
                table.fingerprint(),
            ),
            (Ring::NAME, &ring, ring.fingerprint()),
            (Rendezvous::NAME, &rendezvous, rendezvous.fingerprint()),
            (MultiProbe::NAME, &probes, probes.fingerprint()),
        ] {
            let value = json!({ "owners": owners(members, placement), "fingerprint": format!("{fingerprint:016x}") });
            got.insert(format!("{name} {kind}"), value);
        }
    }
    let mut anchor = Anchor::with_capacity(6, 7).unwrap();
    anchor.remove(NodeIx::new(2)).unwrap();
    anchor.add().unwrap();
    anchor.add().unwrap();
    anchor.remove(NodeIx::new(4)).unwrap();
    let value = json!({ "owners": owners(&equal, &anchor), "fingerprint": format!("{:016x}", anchor.fingerprint()) });
    got.insert(Anchor::NAME.to_string(), value);
    let golden: Json = serde_json::from_str(GOLDEN).unwrap();
    let got = Json::Object(got);
    assert_eq!(
        got,
        golden,
        "{}",
        serde_json::to_string_pretty(&got).unwrap()
    );
    assert_eq!(Xxh64::new().hash(b""), 0xef46_db37_51d8_e999);
}
