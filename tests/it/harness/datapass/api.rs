//! What the real DataPass answers: its token endpoint and its API.

use serde_json::{Value, json};

use super::fault::Endpoint;
use super::http::{Answer, Request};
use super::upstream::{Upstream, Worth};

const JSON: &str = "application/json; charset=utf-8";

/// Answers a request out of the present state.
pub(super) fn answer(upstream: &mut Upstream, request: &Request) -> Answer {
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

/// Makes an error of the API in its JSON form.
pub(super) fn error(status: u16) -> Answer {
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
    Answer::new(status, JSON, body.to_string())
}

/// The token endpoint: RFC 6749, section 4.4 and its errors of section 5.2.
fn token(upstream: &mut Upstream, request: &Request) -> Answer {
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
    Answer::new(200, JSON, body.to_string()).header("Cache-Control", "no-store")
}

fn token_error(status: u16, word: &str, description: &str) -> Answer {
    let body = json!({"error": word, "error_description": description}).to_string();
    let answer = Answer::new(status, JSON, body);
    match status {
        401 => answer
            .header("WWW-Authenticate", &format!("Bearer realm=\"Doorkeeper\", error=\"{word}\"")),
        _ => answer,
    }
}

/// Refuses a request without a good token: 401 for an unknown or expired one, 422 for one that is
/// revoked or short of the scope.
fn refusal(upstream: &Upstream, request: &Request) -> Option<Answer> {
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match token.map_or(Worth::Unknown, |token| upstream.worth(token)) {
        Worth::Good => None,
        Worth::Unknown => Some(error(401)),
        Worth::Useless => Some(error(422)),
    }
}

fn listing(upstream: &mut Upstream, request: &Request) -> Answer {
    let states = request.params("state[]");
    let states: Vec<&str> = states.iter().map(String::as_str).collect();
    let limit = request.number("limit").filter(|limit| *limit > 0);
    let limit = limit.unwrap_or(upstream.default_limit);
    let offset = request.number("offset").unwrap_or(0);
    Answer::new(200, JSON, upstream.page(&states, limit, offset))
}

fn definitions(upstream: &Upstream) -> Answer {
    let list: Value = upstream
        .definitions
        .iter()
        .map(|(id, name)| json!({"id": id, "name": name, "provider": "canari"}))
        .collect();
    Answer::new(200, JSON, list.to_string())
}
