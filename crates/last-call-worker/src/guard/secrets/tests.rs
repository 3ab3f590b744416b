//! Tokens that count and tokens that do not, what is signed under `hold`, and that nobody sees a secret.

use std::ffi::OsStr;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::Request;
use hyper::header::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::guard::rig::{SESAME, keys, pass};

const ADMIN: &str = "/twirp/livekit.RoomService/ListParticipants";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Claims that hold now.
fn claims(key: &str, video: impl Into<Value>) -> Value {
    json!({"iss": key, "exp": now() + 600, "nbf": now(), "video": video.into()})
}

fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

fn sign(algorithm: Algorithm, claims: &Value, secret: &str) -> String {
    // Has the HMAC installed.
    let _ = Claims::from_unverified("");
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).expect("signed")
}

fn request(path: &str, token: &str) -> Parts {
    let request = Request::post(path).header("authorization", format!("Bearer {token}")).body(());
    request.expect("a request").into_parts().0
}

fn registers(secrets: &Secrets, token: &str) -> Result<(), Refused> {
    let Parts { headers, uri, .. } = request("/agent", token);
    secrets.verify_worker(&headers, &uri)
}

#[test]
fn a_worker_registers_with_a_token_in_the_header_or_the_query() {
    let secrets = pass();
    let agent = claims("devkey", json!({"agent": true}));
    let token = sign(Algorithm::HS256, &agent, SESAME);
    assert_eq!(registers(&secrets, &token), Ok(()));
    let just_over = sign(Algorithm::HS256, &with(agent, "exp", now() - 20), SESAME);
    assert_eq!(registers(&secrets, &just_over), Ok(()), "clocks differ");
    let verify =
        |uri: &str, headers: &HeaderMap| secrets.verify_worker(headers, &uri.parse().expect("a URI"));
    let in_query = format!("/agent?protocol=16&access_token={token}");
    assert_eq!(verify(&in_query, &HeaderMap::new()), Ok(()));
    let mut wrong = HeaderMap::new();
    wrong.insert(AUTHORIZATION, HeaderValue::from_static("Bearer nonsense"));
    assert!(verify(&in_query, &wrong).is_err(), "the header counts where there is one");
}

#[test]
fn the_query_goes_on_without_the_token() {
    for (query, expected) in [
        ("", ""),
        ("access_token=x", ""),
        ("worker_token=a%20b&access_token=x.y-z&protocol=16", "worker_token=a%20b&protocol=16"),
        ("a&access_tokens=x&b=access_token", "a&access_tokens=x&b=access_token"),
    ] {
        assert_eq!(without_token(query), expected);
    }
}

#[test]
fn no_other_token_registers_a_worker() {
    let secrets = pass();
    let good = claims("devkey", json!({"agent": true}));
    let signed = |claims: &Value| sign(Algorithm::HS256, claims, SESAME);
    let token = signed(&good);
    let (_, body) = token.split_once('.').expect("three parts");
    let (payload, _) = body.split_once('.').expect("three parts");
    // {"alg":"none","typ":"JWT"} and {"alg":"RS256","typ":"JWT"}
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
    let rs256 = format!("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.{body}");
    let mut anonymous = good.clone();
    anonymous.as_object_mut().expect("claims").remove("iss");
    for (what, token, said) in [
        ("expired", signed(&with(good.clone(), "exp", now() - 120)), "has expired"),
        ("early", signed(&with(good.clone(), "nbf", now() + 120)), "not valid yet"),
        ("endless", signed(&with(good.clone(), "exp", Value::Null)), "not signed with"),
        ("another secret", sign(Algorithm::HS256, &good, "shut"), "not signed with"),
        ("another key", signed(&claims("otherkey", json!({"agent": true}))), "not signed with"),
        ("no key", signed(&anonymous), "not signed with"),
        ("HS384", sign(Algorithm::HS384, &good, SESAME), "not signed with"),
        ("HS512", sign(Algorithm::HS512, &good, SESAME), "not signed with"),
        ("none", none, "not signed with"),
        ("RS256", rs256, "not signed with"),
        ("nonsense", "a.b.c".to_owned(), "not signed with"),
        ("empty", String::new(), "not signed with"),
        ("no grant", signed(&claims("devkey", json!({"roomJoin": true, "room": "a"}))), "lacks the grant"),
    ] {
        let refused = registers(&secrets, &token).expect_err(what);
        assert!(refused.to_string().contains(said) && refused.status() == 401, "{what}: {refused}");
        assert!(token.is_empty() || !refused.to_string().contains(&token), "{what}");
    }
    for header in ["", "Basic eA==", "bearer", "Bearer\u{e9}"] {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(header.as_bytes()).expect("a value"));
        let refused = secrets.verify_worker(&headers, &Uri::from_static("/agent")).expect_err(header);
        assert!(refused.to_string().contains("there is no token"), "{header}: {refused}");
    }
    assert!(secrets.verify_worker(&HeaderMap::new(), &Uri::from_static("/agent?access_toke=x")).is_err());
}

/// Secrets that are held, and the key and secret that the child has.
fn held(allowed: &[Right]) -> (Secrets, String, String) {
    let secrets = Secrets::held(keys(), allowed.to_vec()).expect("random numbers");
    let mut command = Command::new("true");
    secrets.environment(&mut command);
    let variable = |name: &str| {
        let found = command.get_envs().find(|(given, _)| *given == OsStr::new(name));
        found.and_then(|(_, value)| value?.to_str()).expect(name).to_owned()
    };
    let (key, secret) = (variable("LIVEKIT_API_KEY"), variable("LIVEKIT_API_SECRET"));
    (secrets, key, secret)
}

#[test]
fn the_child_knows_the_keys_that_it_shall() {
    let mut command = Command::new("true");
    pass().environment(&mut command);
    let envs: Vec<_> = command.get_envs().collect();
    assert!(envs.contains(&(OsStr::new("LIVEKIT_API_SECRET"), Some(OsStr::new(SESAME)))), "{envs:?}");
    let (secrets, key, secret) = held(&Right::USUAL);
    let (_, other_key, other_secret) = held(&Right::USUAL);
    assert!(key != "devkey" && secret != SESAME && key != other_key && secret != other_secret);
    assert_eq!(secret.len(), 64);
    let agent =
        |key: &str, secret: &str| sign(Algorithm::HS256, &claims(key, json!({"agent": true})), secret);
    assert_eq!(registers(&secrets, &agent(&key, &secret)), Ok(()));
    for token in [agent("devkey", SESAME), agent(&key, SESAME), agent("devkey", &secret)] {
        let refused = registers(&secrets, &token).expect_err("not the child's");
        assert!(refused.to_string().contains("that guard gave its child"), "{refused}");
    }
}

/// The claims that the server gets where the child asks with `video` and `sip`; or why it gets none.
fn signed(held: &(Secrets, String, String), path: &str, video: Value, sip: Value) -> Result<Value, String> {
    let (secrets, key, secret) = held;
    let asked = with(claims(key, video), "sip", sip);
    let mut request =
        request(&format!("/prefix{path}?access_token=x"), &sign(Algorithm::HS256, &asked, secret));
    secrets.admit(&mut request, "/prefix").map_err(|refused| {
        assert_eq!(refused.status(), 403, "{refused}");
        refused.to_string()
    })?;
    assert_eq!(request.uri.to_string(), format!("/prefix{path}"), "the query is gone");
    let token =
        request.headers[AUTHORIZATION].to_str().expect("text").strip_prefix("Bearer ").expect("a bearer");
    let verified = TokenVerifier::with_api_key("devkey", SESAME).verify(token).expect("the real key's");
    assert!(u64::try_from(verified.exp).expect("small") <= now() + 60, "a minute at most");
    let mut all = serde_json::to_value(
        jsonwebtoken::dangerous::insecure_decode::<Value>(token).expect("claims").claims,
    )
    .expect("JSON");
    let all = all.as_object_mut().expect("claims");
    for known in ["exp", "nbf", "iss"] {
        all.remove(known).expect(known);
    }
    Ok(Value::Object(all.clone()))
}

#[test]
fn what_is_signed_is_what_the_method_needs_in_a_room_of_the_worker() {
    let held = held(&Right::USUAL);
    held.0.begin("J".into(), "mine");
    let greedy = json!({
        "roomAdmin": true, "room": "mine", "roomCreate": true, "roomList": true, "roomRecord": true,
        "roomJoin": true, "ingressAdmin": true, "agent": true, "hidden": true, "destinationRoom": "theirs",
    });
    let all = json!({"admin": true, "call": true});
    for method in
        [ADMIN, "/twirp/livekit.RoomService/SendData", "/twirp/livekit.AgentDispatchService/CreateDispatch"]
    {
        let claims = signed(&held, method, greedy.clone(), all.clone());
        assert_eq!(claims, Ok(json!({"video": {"roomAdmin": true, "room": "mine"}})), "{method}");
    }
    let other = signed(
        &held,
        ADMIN,
        json!({"roomAdmin": true, "room": "theirs"}),
        json!({"admin": false, "call": false}),
    );
    let other = other.expect_err("another's room");
    assert!(other.contains("\"theirs\"") && other.contains("--allow room:any"), "{other}");
    let lacking = signed(&held, ADMIN, json!({"room": "mine"}), all.clone()).expect_err("lacks the grant");
    assert!(lacking.contains("lacks the grant"), "{lacking}");
    for (method, right) in [
        ("RoomService/CreateRoom", "room:create"),
        ("RoomService/DeleteRoom", "room:create"),
        ("RoomService/ListRooms", "room:list"),
        ("RoomService/MoveParticipant", "room:any"),
        ("Egress/StartRoomCompositeEgress", "room:record"),
        ("Ingress/CreateIngress", "ingress:admin"),
        ("SIP/CreateSIPParticipant", "sip:call"),
        ("SIP/TransferSIPParticipant", "sip:call"),
        ("SIP/CreateSIPTrunk", "sip:admin"),
        ("CloudAgent/DeleteAgent", "signs nothing"),
    ] {
        let refused = signed(&held, &format!("/twirp/livekit.{method}"), greedy.clone(), all.clone());
        let refused = refused.expect_err(method);
        assert!(refused.contains(right) && refused.contains(method), "{method}: {refused}");
    }
}

#[test]
fn a_room_is_the_workers_while_it_has_a_job_there() {
    let held = held(&Right::USUAL);
    let admin = || {
        let none = json!({"admin": false, "call": false});
        signed(&held, ADMIN, json!({"roomAdmin": true, "room": "mine"}), none).is_ok()
    };
    assert!(!admin());
    held.0.begin("J1".into(), "mine");
    held.0.begin("J2".into(), "mine");
    held.0.end(&"J1".into());
    assert!(admin(), "two agents by design");
    held.0.end(&"J1".into());
    assert!(admin(), "it was over before");
    held.0.end(&"J2".into());
    assert!(!admin());
}

#[test]
fn what_is_listed_is_signed_and_nothing_beside_it() {
    let none = json!({"admin": false, "call": false});
    let all = json!({"admin": true, "call": true});
    let greedy = json!({
        "roomAdmin": true, "room": "any", "roomCreate": true, "roomList": true, "roomRecord": true,
        "ingressAdmin": true, "destinationRoom": "other",
    });
    let room = json!({"roomAdmin": true, "room": "any"});
    for (right, method, expected) in [
        (Right::RoomAny, "RoomService/ListParticipants", json!({"video": room})),
        (Right::DispatchAny, "AgentDispatchService/ListDispatch", json!({"video": room})),
        (Right::RoomCreate, "RoomService/DeleteRoom", json!({"video": {"roomCreate": true}})),
        (Right::RoomList, "RoomService/ListRooms", json!({"video": {"roomList": true}})),
        (Right::RoomRecord, "Egress/StopEgress", json!({"video": {"roomRecord": true}})),
        (Right::IngressAdmin, "Ingress/ListIngress", json!({"video": {"ingressAdmin": true}})),
        (Right::SipCall, "SIP/CreateSIPParticipant", json!({"sip": {"call": true}})),
        (Right::SipAdmin, "SIP/ListSIPTrunk", json!({"sip": {"admin": true}})),
        (
            Right::RoomAny,
            "RoomService/MoveParticipant",
            json!({"video": {"roomAdmin": true, "room": "any", "destinationRoom": "other"}}),
        ),
    ] {
        let held = held(&[right]);
        let path = format!("/twirp/livekit.{method}");
        assert_eq!(signed(&held, &path, greedy.clone(), all.clone()), Ok(expected), "{method}");
        assert!(signed(&held, &path, json!({}), none.clone()).is_err(), "{method}: the token lacks it");
    }
    let transfer = held(&[Right::SipCall, Right::RoomOwn]);
    let path = "/twirp/livekit.SIP/TransferSIPParticipant";
    assert!(signed(&transfer, path, greedy.clone(), all.clone()).is_err(), "not a room of the worker");
    transfer.0.begin("J".into(), "any");
    let expected = json!({"video": room, "sip": {"call": true}});
    assert_eq!(signed(&transfer, path, greedy, all), Ok(expected));
}

#[test]
fn no_hash_of_a_body_is_signed() {
    let (secrets, key, secret) = held(&Right::USUAL);
    secrets.begin("J".into(), "mine");
    let admin = claims(&key, json!({"roomAdmin": true, "room": "mine"}));
    let hashed = with(admin, "sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    let mut request = request(ADMIN, &sign(Algorithm::HS256, &hashed, &secret));
    let refused = secrets.admit(&mut request, "").expect_err("refused");
    assert!(refused.to_string().contains("webhooks"), "{refused}");
}

#[test]
fn only_joins_pass_as_they_are() {
    let (secrets, key, secret) = held(&Right::USUAL);
    let join = claims("devkey", json!({"roomJoin": true, "room": "a"}));
    let join = sign(Algorithm::HS256, &join, SESAME);
    for path in ["/rtc", "/rtc/v1", "/rtc/validate", "/rtc/v1/validate"] {
        let path = format!("/prefix{path}?access_token={join}&auto_subscribe=1");
        let mut request = request(&path, &join);
        let before = request.headers.clone();
        assert_eq!(secrets.admit(&mut request, "/prefix"), Ok(()));
        assert_eq!((request.uri.to_string(), request.headers), (path, before));
    }
    let local = sign(Algorithm::HS256, &claims(&key, json!({"roomAdmin": true, "room": "a"})), &secret);
    for path in [
        "/",
        "/agent",
        "/rtc/../twirp/livekit.RoomService/ListRooms",
        "/rtc/",
        "/whip/v1",
        "/rtc%2fvalidate",
        "/twirp/",
    ] {
        for token in [&join, &local] {
            let refused = secrets.admit(&mut request(path, token), "").expect_err(path);
            assert!(refused.status() == 403 && refused.to_string().contains(path), "{path}: {refused}");
        }
    }
    let real = secrets.admit(&mut request(ADMIN, &join), "").expect_err("the real key is not the child's");
    assert_eq!(real.status(), 401);
    assert!(secrets.admit(&mut request(ADMIN, &local), "/prefix").is_err(), "outside the server's path");
}

#[test]
fn under_pass_everything_passes_as_it_is() {
    for path in ["/", "/rtc?access_token=x", "/twirp/livekit.RoomService/CreateRoom"] {
        let mut request = request(path, "whatever");
        assert_eq!(pass().admit(&mut request, ""), Ok(()));
        assert_eq!(request.uri.to_string(), path);
        assert_eq!(request.headers[AUTHORIZATION], "Bearer whatever");
    }
}

#[test]
fn wire_1_no_token_panics_and_none_is_let_in() {
    let (secrets, _, _) = held(&Right::USUAL);
    let pass = pass();
    bolero::check!().with_type::<(String, String)>().for_each(|(token, path)| {
        let Ok(bearer) = HeaderValue::try_from(format!("Bearer {token}")) else { return };
        for secrets in [&pass, &secrets] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, bearer.clone());
            assert!(secrets.verify_worker(&headers, &Uri::from_static("/agent")).is_err());
        }
        let mut request = request(ADMIN, "");
        request.headers.insert(AUTHORIZATION, bearer);
        if let Ok(uri) = format!("/twirp/livekit.{path}").parse() {
            request.uri = uri;
        }
        assert!(secrets.admit(&mut request, "").is_err());
    });
}

#[test]
fn no_text_has_a_secret() {
    for secrets in [pass(), held(&Right::USUAL).0] {
        let shown = format!("{secrets:?} {secrets:#?}");
        let local = secrets.keys().secret.expose();
        assert!(!shown.contains(SESAME) && !shown.contains(local), "{shown}");
    }
    let (secrets, key, secret) = held(&Right::USUAL);
    secrets.begin("J".into(), "mine");
    let mut request = request(
        ADMIN,
        &sign(Algorithm::HS256, &claims(&key, json!({"roomAdmin": true, "room": "mine"})), &secret),
    );
    secrets.admit(&mut request, "").expect("signed");
    let token = request.headers[AUTHORIZATION].to_str().expect("text").to_owned();
    assert!(!format!("{request:?}").contains(&token), "a header that is shown");
}

#[cfg(target_os = "linux")]
#[test]
fn a_held_secret_is_out_of_the_childs_sight() {
    use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};
    conceal().expect("closed");
    let closed = dumpable_behavior();
    set_dumpable_behavior(DumpableBehavior::Dumpable).expect("open again for other tests");
    assert_eq!(closed, Ok(DumpableBehavior::NotDumpable));
}
