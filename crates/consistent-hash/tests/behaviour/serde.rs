//! Members in a configuration file.

use stackbeam_consistent_hash::{MemberState, Members};

#[test]
fn members_are_read_with_defaults_and_checked() {
    let text =
        r#"[{"name": "a"}, {"name": "b", "weight": 2.5, "zone": "eu/1", "state": "draining"}]"#;
    let members: Members = serde_json::from_str(text).unwrap();
    assert_eq!(members.len(), 2);
    let b = members.iter().find(|member| member.name() == "b").unwrap();
    assert_eq!(
        (b.weight(), b.zone(), b.state()),
        (2.5, "eu/1", MemberState::Draining)
    );
    let again: Members = serde_json::from_str(&serde_json::to_string(&members).unwrap()).unwrap();
    assert_eq!(again, members);
    for bad in [
        r#"[{"name": "a"}, {"name": "a"}]"#,
        r#"[{"name": "a", "weight": -1}]"#,
        r#"[{"name": ""}]"#,
        r#"[{"name": "a", "wieght": 1}]"#,
        r#"[{"weight": 1}]"#,
    ] {
        assert!(serde_json::from_str::<Members>(bad).is_err(), "{bad}");
    }
}
