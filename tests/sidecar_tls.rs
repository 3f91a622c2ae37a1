//! A Redis with TLS and a password: private authorities, client certificates, and a password in a file.

use llm_rate_limit_tests::process::free_port;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::{Sidecar, launch};
use llm_rate_limit_tests::tls::Authority;
use std::fs;
use std::time::Duration;

/// A Redis that accepts only clients of `authority` on a port with TLS, and that port.
fn server(authority: &Authority) -> (Redis, u16) {
    let port = free_port();
    let [ca, cert, key] = ["ca.crt", "server.crt", "server.key"].map(|name| authority.path(name));
    let port_text = port.to_string();
    let flags = ["--tls-port", &port_text, "--tls-ca-cert-file", &ca, "--tls-cert-file", &cert];
    let redis =
        Redis::start_with(&[&flags[..], &["--tls-key-file", &key, "--tls-auth-clients", "yes"]].concat());
    (redis, port)
}

#[tokio::test]
async fn a_private_authority_and_a_client_certificate_open_redis() {
    let (authority, other) = (Authority::create(), Authority::create());
    let (_redis, port) = server(&authority);
    let [ca, cert, key] = ["ca.crt", "client.crt", "client.key"].map(|name| authority.path(name));
    let url = format!("rediss://localhost:{port}");
    let all = [("REDIS_CA", &*ca), ("REDIS_CERT", &cert), ("REDIS_KEY", &key)];
    let sidecar = Sidecar::start(&url, &all);
    sidecar.wait_until_ready_is(200).await;

    let [other_ca, other_cert, other_key] =
        ["ca.crt", "client.crt", "client.key"].map(|name| other.path(name));
    for settings in [
        &all[..1],
        &all[1..],
        &[("REDIS_CA", &*other_ca), all[1], all[2]],
        &[all[0], ("REDIS_CERT", &*other_cert), ("REDIS_KEY", &*other_key)],
    ] {
        let sidecar = Sidecar::start(&url, settings);
        // It tries again and again, and its first attempts are over after that.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(sidecar.get("/readyz").await.0, 503, "{settings:?}: {}", sidecar.log());
        assert!(!sidecar.log().contains("PRIVATE"), "{}", sidecar.log());
    }
}

#[tokio::test]
async fn a_password_is_read_from_a_file() {
    let redis = Redis::start();
    let words = ["ACL", "SETUSER", "limiter", "on", ">of the file", "~llmrl:*", "+@all"];
    let () = redis.ask(&words);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "of the file\n").unwrap();
    let setting = [("REDIS_PASSWORD_FILE", file.to_str().unwrap())];
    let url = format!("redis://limiter@127.0.0.1:{}", redis.port());
    let sidecar = Sidecar::start(&url, &setting);
    sidecar.wait_until_ready_is(200).await;
    assert!(!sidecar.log().contains("of the file"));
    fs::write(&file, "another").unwrap();
    let sidecar = Sidecar::start(&url, &setting);
    sidecar.wait_until_ready_is(503).await;
}

#[test]
fn settings_that_do_not_fit_are_refused_by_name() {
    let authority = Authority::create();
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    let empty = empty.to_str().unwrap();
    let [ca, cert, key] = ["ca.crt", "client.crt", "client.key"].map(|name| authority.path(name));
    let (plain, tls) = ("redis://127.0.0.1:1", "rediss://127.0.0.1:1");
    for (url, settings, expected) in [
        (tls, &[("REDIS_CA", "/nowhere")][..], "REDIS_CA: cannot read /nowhere: No such file"),
        (tls, &[("REDIS_CA", empty)], "REDIS_CA: expected a certificate in PEM in "),
        (tls, &[("REDIS_CERT", &*cert), ("REDIS_KEY", &*cert)], "REDIS_KEY: expected a key in PEM in "),
        (tls, &[("REDIS_CERT", &*cert)], "REDIS_CERT and REDIS_KEY: expected both or neither"),
        (tls, &[("REDIS_KEY", &*key)], "REDIS_CERT and REDIS_KEY: expected both or neither"),
        (plain, &[("REDIS_CA", &*ca)], "REDIS_URL: expected rediss:// or rediss+sentinel://"),
        ("redis+sentinel://a/main", &[("REDIS_CA", &*ca)], "REDIS_URL: expected rediss://"),
        (plain, &[("REDIS_PASSWORD_FILE", empty)], "REDIS_PASSWORD_FILE: expected a password in "),
        (
            "redis://:p@127.0.0.1:1",
            &[("REDIS_PASSWORD_FILE", &*ca)],
            "REDIS_URL: it has a password, and so has",
        ),
    ] {
        let mut process = launch("127.0.0.1:0", url, settings);
        let status = process.wait(Duration::from_secs(20)).unwrap();
        assert_eq!(status.code(), Some(2), "{settings:?}: {}", process.log());
        assert!(process.log().contains(expected), "{settings:?}: {}", process.log());
    }
}
