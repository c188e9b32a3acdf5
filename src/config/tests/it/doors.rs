//! Nobody from outside comes in without saying who they are.

use trefoil_config::{Config, FlagOverrides, WebConfig};

use crate::TempDir;

const HASH: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

fn load(text: &str, flags: &FlagOverrides) -> Result<(), String> {
    let dir = TempDir::new(&format!("doors-{}", text.len()));
    dir.write("web-users.yml", &format!("basic_auth_users: {{ann: {HASH}}}\n"));
    dir.write("web-tls.yml", "tls_server_config: {cert_file: c, key_file: k}\n");
    let file = dir.write("t.yml", text);
    Config::load_with(Some(&file), flags, &|_| None).map(drop).map_err(|e| e.to_string())
}

#[test]
fn an_open_door_needs_a_lock() {
    let none = FlagOverrides::default();
    let open = "trefoil:\n  listeners:\n    http: {address: '0.0.0.0:9090'}\n";
    let message = load(open, &none).unwrap_err();
    assert!(
        message.contains("t.yml:3:5: listener http at 0.0.0.0:9090 can be reached from other machines"),
        "{message}"
    );
    for more in [
        "  insecure_allow_anonymous: true\n".to_owned(),
        format!("  auth: {{basic_auth_users: {{ann: {HASH}}}}}\n"),
        "  auth: {bearer_tokens: [{name: ci, token: 0123456789abcdef}]}\n".to_owned(),
        "  web_config_file: web-users.yml\n".to_owned(),
    ] {
        load(&format!("{open}{more}"), &none).unwrap_or_else(|e| panic!("{more}: {e}"));
    }
    let dir = TempDir::new("web-warnings");
    let web = dir.write("web.yml", &format!("rate_limit: {{burst: 1}}\nbasic_auth_users: {{ann: {HASH}}}\n"));
    let flags = FlagOverrides { web_config_file: Some(web), ..none.clone() };
    let loaded = Config::load_with(None, &flags, &|_| None).unwrap();
    assert_eq!(loaded.warnings[0].key, "rate_limit");
    assert!(loaded.web.is_some());
    // TLS hides what is said, but not from whom.
    assert!(load(&format!("{open}  web_config_file: web-tls.yml\n"), &none).is_err());
    load("trefoil: {listeners: {otlp_grpc: {address: ':4317', enabled: false}}}", &none).unwrap();
    assert!(load("trefoil: {listeners: {otlp_grpc: ':4317'}}", &none).is_err());
    let flags = FlagOverrides { web_listen_address: vec!["127.0.0.1:1".to_owned(), "0.0.0.0:9090".to_owned()], ..none };
    let message = load("", &flags).unwrap_err();
    assert!(message.contains("t.yml: listener http at 0.0.0.0:9090 can be reached"), "{message}");
}

#[test]
fn web_config_files() {
    let parse = |text: &str| WebConfig::parse(text, "/w".as_ref()).map_err(|e| e.to_string());
    let web = parse(&format!(
        "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  min_version: TLS13\nhttp_server_config:\n  http2: false\n  headers: {{X-Frame-Options: deny}}\nbasic_auth_users:\n  ann: {HASH}\n"
    ))
    .unwrap();
    let tls = web.tls_server_config.as_ref().unwrap();
    assert_eq!(tls.cert_file.as_deref(), Some("/w/a.crt".as_ref()));
    assert!(tls.authenticates_clients() && web.authenticates());
    assert!(parse("").unwrap() == WebConfig::default());
    for (text, want) in [
        ("tls_server_config: {cert_file: a}", "missing one of key or key_file"),
        ("tls_server_config: {cert_file: a, key_file: b, client_auth_type: Sometimes}", "unknown client auth type"),
        ("basic_auth_users: {ann: secret}", "password of user \"ann\" is not a bcrypt hash"),
        ("http_server_config: {headers: {X-Other: a}}", "HTTP header \"X-Other\" can not be configured"),
        ("tls_config: {}", "field tls_config not found"),
    ] {
        let message = parse(text).unwrap_err();
        assert!(message.contains(want), "{text}: {message}");
    }
}
