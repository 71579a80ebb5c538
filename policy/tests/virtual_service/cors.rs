//! Which origins have leave, and what is said to them.

use http::HeaderValue;
use palisade_policy::kind::virtual_service::cors::AllowedOrigin;

use super::{edge_with, get};

fn allows(fields: &str, origin: &str) -> Option<AllowedOrigin> {
    let to = "route: [{destination: {host: accounts}}]";
    let route = get("/").route(&edge_with(&format!("{{corsPolicy: {{{fields}}}, {to}}}"))).unwrap();
    route.cors.as_ref().unwrap().allows(&HeaderValue::from_str(origin).unwrap())
}

#[test]
fn an_origin_has_leave_as_it_is_written_and_not_otherwise() {
    let exact = "allowOrigins: [{exact: 'https://app.example'}], allowCredentials: true";
    let regex = r"allowOrigins: [{regex: 'https://[a-z]+\.app\.example'}], allowCredentials: true";
    let rows = [
        (exact, "https://app.example", true),
        (exact, "https://app.example.evil.example", false),
        (exact, "https://app.example:8443", false),
        (exact, "http://app.example", false),
        (exact, "https://APP.example", false),
        (exact, "https://evil.example/https://app.example", false),
        (exact, "null", false),
        (exact, "", false),
        (regex, "https://a.app.example", true),
        (regex, "https://a.app.example.evil.example", false),
        (regex, "https://evil.example#a.app.example", false),
        (regex, "https://axapp.example", false),
    ];
    for (fields, origin, expected) in rows {
        assert_eq!(allows(fields, origin), expected.then_some(AllowedOrigin::This), "{fields} {origin}");
    }
    assert_eq!(allows("allowOrigins: [{exact: '*'}]", "https://any.example"), Some(AllowedOrigin::Any));
}

#[test]
fn lists_are_joined_at_configuration_time() {
    let fields = "allowOrigins: [{exact: '*'}], allowMethods: [GET, POST], allowHeaders: [authorization, x-a], \
                  exposeHeaders: [x-b], maxAge: 1h";
    let to = "route: [{destination: {host: accounts}}]";
    let route = get("/").route(&edge_with(&format!("{{corsPolicy: {{{fields}}}, {to}}}"))).unwrap();
    let cors = route.cors.as_ref().unwrap();
    assert_eq!(cors.allow_methods.as_ref().unwrap(), "GET,POST");
    assert_eq!(cors.allow_headers.as_ref().unwrap(), "authorization,x-a");
    assert_eq!(cors.expose_headers.as_ref().unwrap(), "x-b");
    assert_eq!(cors.max_age.as_ref().unwrap(), "3600");
}
