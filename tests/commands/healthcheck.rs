//! `healthcheck`: its exit status, for container engines.

use llm_rate_limit_tests::command::{Run, run, run_with};
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;

#[tokio::test]
async fn healthcheck_tells_by_its_status_whether_a_server_is_well() {
    let mut redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let check = |arguments: &[&str]| {
        let environment = [("LISTEN", sidecar.address()), ("HTTP_PROXY", "http://127.0.0.1:1")];
        run_with(&[&["healthcheck"], arguments].concat(), &environment, "")
    };
    for arguments in [&[][..], &["--ready"], &[&format!("http://{}/readyz", sidecar.address())]] {
        let Run { status, out, err } = check(arguments);
        assert_eq!((status, out.as_str(), err.as_str()), (0, "200: ok\n", ""), "{arguments:?}");
    }
    redis.kill();
    sidecar.wait_until_ready_is(503).await;
    assert_eq!(check(&[]).status, 0, "the sidecar itself is well");
    let Run { status, out, .. } = check(&["--ready"]);
    assert!(status == 1 && out.starts_with("503: {\"error\":"), "{status} {out}");
    let nobody = run(&["healthcheck", "http://127.0.0.1:1/ready"]);
    assert_eq!((nobody.status, nobody.out.as_str()), (1, ""));
    assert!(nobody.err.starts_with("error: http://127.0.0.1:1/ready: "), "{}", nobody.err);
}

#[test]
fn healthcheck_asks_a_sidecar_on_a_unix_socket() {
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sidecar.sock");
    let _sidecar = Sidecar::start_unix(&socket, &redis.url(), &[]);
    let listen = format!("unix:{}", socket.display());
    assert_eq!(run_with(&["healthcheck"], &[("LISTEN", &listen)], "").out, "200: ok\n");
}
