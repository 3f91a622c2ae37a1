//! The profile `cluster`.

use crate::stack::Stack;

#[test]
fn the_services_of_a_cluster_count_on_three_servers() {
    let stack = Stack::new();
    let nodes = ["cluster-redis-1", "cluster-redis-2", "cluster-redis-3"];
    let _nodes = nodes.map(|node| stack.redis(node));
    stack.create("cluster-setup");
    let setup = |expected: &str| {
        let output =
            stack.command("cluster-setup", &stack.start_line("cluster-setup", &[])).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains(expected),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    setup("All 16384 slots covered");
    let _sidecar = stack.up("cluster-sidecar", &[]);
    // The engine runs it again at each start.
    setup("is in a cluster already");
}

/// Ports stand for addresses, which the engine gives anew.
#[test]
fn a_cluster_whose_servers_have_other_addresses_after_a_restart_counts_on() {
    let stack = Stack::new();
    let nodes = ["cluster-redis-1", "cluster-redis-2", "cluster-redis-3"];
    stack.create("cluster-setup");
    let setup = || stack.command("cluster-setup", &stack.start_line("cluster-setup", &[])).output().unwrap();
    let first = nodes.map(|node| stack.redis(node));
    assert!(setup().status.success());
    drop(first);
    stack.ports.borrow_mut().retain(|name, _| !name.starts_with("cluster-redis"));
    let _again = nodes.map(|node| stack.redis(node));
    let output = setup();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("is in a cluster already"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let _sidecar = stack.up("cluster-sidecar", &[]);
    let password = Stack::secret("redis_password");
    for node in nodes {
        let mut connection = stack.connection(node, &format!(":{password}@")).unwrap();
        let slots: String = redis::cmd("CLUSTER").arg("NODES").query(&mut connection).unwrap();
        for other in nodes {
            let place = format!("127.0.0.1:{}@", stack.port(other, 6379));
            assert!(slots.contains(&place), "{node} does not know {place}:\n{slots}");
        }
    }
}

#[test]
fn a_server_of_the_cluster_without_an_address_is_named() {
    let stack = Stack::new();
    stack.create("cluster-setup");
    let mut line = stack.start_line("cluster-setup", &[]);
    line.truncate(line.len() - 3);
    line.extend(["127.0.0.1:1", "nobody.invalid:6379"].map(str::to_owned));
    let output = stack.command("cluster-setup", &line).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("nobody.invalid has no address"), "{text}");
}
