//! The responses of the token endpoint and of the API, like those of the real DataPass.

use serde_json::{Value, json};

use super::fault::Endpoint;
use super::http::{Request, Response};
use super::upstream::{TokenState, Upstream};

const JSON: &str = "application/json; charset=utf-8";

/// Makes the response to a request from the current state.
pub(super) fn response(upstream: &mut Upstream, request: &Request) -> Response {
    match (request.method.as_str(), request.endpoint) {
        ("POST", Endpoint::Token) => token(upstream, request),
        ("GET", Endpoint::Listing) => {
            refusal(upstream, request).unwrap_or_else(|| listing(upstream, request))
        }
        ("GET", Endpoint::Definitions) => {
            refusal(upstream, request).unwrap_or_else(|| definitions(upstream))
        }
        _ => error(404),
    }
}

/// Makes an error response of the API, in its JSON format.
pub(super) fn error(status: u16) -> Response {
    let (title, detail) = match status {
        400 => ("Requête invalide", "La requête est mal formée"),
        401 => ("Non autorisé", "Le jeton d'accès est invalide ou a expiré (canari)"),
        403 => ("Interdit", "Vous n'avez pas les droits nécessaires"),
        404 => ("Non trouvé", "La ressource demandée n'existe pas"),
        422 => ("Entité non traitable", "Le jeton d'accès est révoqué ou sans les droits"),
        429 => ("Trop de requêtes", "Veuillez réessayer plus tard"),
        _ => ("Erreur interne", "Une erreur est survenue (canari)"),
    };
    let body = json!({"errors": [{
        "status": status.to_string(),
        "title": title,
        "detail": detail,
        "source": {"pointer": "headers/Authorization"},
    }]});
    Response::new(status, JSON, body.to_string())
}

/// Makes the response of the token endpoint: RFC 6749, section 4.4, with the errors of section 5.2.
fn token(upstream: &mut Upstream, request: &Request) -> Response {
    let Some(grant) = request.field("grant_type") else {
        return token_error(400, "invalid_request", "Il manque un paramètre canari");
    };
    let given = (request.field("client_id"), request.field("client_secret"));
    if given != (Some(upstream.client_id.clone()), Some(upstream.client_secret.clone())) {
        return token_error(401, "invalid_client", "L'authentification du client canari a échoué");
    }
    if grant != "client_credentials" {
        return token_error(400, "unsupported_grant_type", "Ce type d'autorisation est inconnu");
    }
    let mut body = json!({
        "access_token": upstream.issue_token(),
        "token_type": "Bearer",
        "created_at": upstream.now().timestamp(),
    });
    if upstream.expires_in {
        body["expires_in"] = json!(upstream.token_lifetime);
    }
    Response::new(200, JSON, body.to_string()).header("Cache-Control", "no-store")
}

fn token_error(status: u16, word: &str, description: &str) -> Response {
    let body = json!({"error": word, "error_description": description}).to_string();
    let response = Response::new(status, JSON, body);
    match status {
        401 => response
            .header("WWW-Authenticate", &format!("Bearer realm=\"Doorkeeper\", error=\"{word}\"")),
        _ => response,
    }
}

/// Refuses a request without a valid token: 401 if it is unknown or expired, 422 if it is revoked
/// or lacks the scope.
fn refusal(upstream: &Upstream, request: &Request) -> Option<Response> {
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match token.map_or(TokenState::Unknown, |token| upstream.token_state(token)) {
        TokenState::Valid => None,
        TokenState::Unknown => Some(error(401)),
        TokenState::Insufficient => Some(error(422)),
    }
}

fn listing(upstream: &mut Upstream, request: &Request) -> Response {
    let states = request.params("state[]");
    let states: Vec<&str> = states.iter().map(String::as_str).collect();
    let limit = request.number("limit").filter(|limit| *limit > 0);
    let limit = limit.unwrap_or(upstream.default_limit);
    let offset = request.number("offset").unwrap_or(0);
    Response::new(200, JSON, upstream.page(&states, limit, offset))
}

fn definitions(upstream: &Upstream) -> Response {
    let list: Value = upstream
        .definitions
        .iter()
        .map(|(id, name)| json!({"id": id, "name": name, "provider": "canari"}))
        .collect();
    Response::new(200, JSON, list.to_string())
}
