//! The Kubernetes entry: a CronJob, and below it, commented out, a Job to migrate and one to replay.
//!
//! For Kubernetes 1.29 and later, where every field used here is on by default.

use super::{RETRIES, span};
use crate::types::cron::Cron;

/// The Job controller's waits before tries two to six: 10 s, doubled each time.
const BACKOFF_SECONDS: u64 = 10 + 20 + 40 + 80 + 160;

/// From SIGTERM to SIGKILL; the tool ends within two seconds.
const GRACE_SECONDS: u64 = 30;

/// What a pod may take beyond the cycle's deadline: a node, the image, the start, a last report.
const POD_ROOM_SECONDS: u64 = 60;

/// Returns the manifest, explained in lines of `##`: what begins with `# ` is YAML to be switched on.
///
/// `image` needs no escape in quotes.
pub(super) fn entry(cron: &Cron, image: &str, timeout_seconds: u64) -> String {
    let job = |arguments| job(arguments, image, timeout_seconds);
    let cycle = indent(&job(r#"["pull"]"#), "      ");
    let migrate = one_off(
        "datapass-pull-migrate",
        "Creates or upgrades the tables; to be run before the first cycle, safe to repeat",
        &job(r#"["migrate"]"#),
    );
    let replay = one_off(
        "datapass-pull-replay",
        "Lists again from --since: an age (7d), a date, or a time with its offset",
        &job(r#"["pull", "--since", "7d"]"#),
    );
    format!(
        r#"## Kubernetes 1.29 or later. It needs, in the same namespace:
##   kubectl create configmap datapass-pull --from-env-file=FILE
##     with DATAPASS_AUTH_URL, DATAPASS_API_BASE_URL, DATAPASS_CLIENT_ID, and no secret
##   kubectl create secret generic datapass-pull --from-file=DATAPASS_CLIENT_SECRET=FILE --from-file=DATABASE_URL=FILE
apiVersion: batch/v1
kind: CronJob
metadata:
  name: datapass-pull
  labels:
    app.kubernetes.io/name: datapass-pull
spec:
  schedule: "{cron}"
  timeZone: Etc/UTC
  # Two runs at once would be safe, and no use
  concurrencyPolicy: Forbid
  # A start that was missed is made up for within the hour
  startingDeadlineSeconds: 3600
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
{cycle}
## Two Jobs to start by hand: take the `# ` away from the lines of one
{migrate}{replay}"#
    )
}

/// Returns the `spec` of a Job, not indented.
fn job(arguments: &str, image: &str, timeout_seconds: u64) -> String {
    let tries = RETRIES + 1;
    let deadline = tries * (timeout_seconds + POD_ROOM_SECONDS + GRACE_SECONDS) + BACKOFF_SECONDS;
    let cycle = span(timeout_seconds);
    format!(
        r#"backoffLimit: {RETRIES}
# {tries} tries of {cycle} with {POD_ROOM_SECONDS} s to start and {GRACE_SECONDS} s to stop, and {BACKOFF_SECONDS} s of waits between them
activeDeadlineSeconds: {deadline}
podReplacementPolicy: Failed
podFailurePolicy:
  rules:
    # A drained node is no failure of the run: replaced, and not counted
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    # 1: a person must act; 126, 127, 128: the container cannot start
    - action: FailJob
      onExitCodes:
        containerName: datapass-pull
        operator: In
        values: [1, 126, 127, 128]
    # 2: transient, tried again up to the backoffLimit
    - action: Count
      onExitCodes:
        containerName: datapass-pull
        operator: In
        values: [2]
template:
  metadata:
    labels:
      app.kubernetes.io/name: datapass-pull
  spec:
    restartPolicy: Never
    terminationGracePeriodSeconds: {GRACE_SECONDS}
    automountServiceAccountToken: false
    enableServiceLinks: false
    securityContext:
      runAsNonRoot: true
      runAsUser: 65532
      runAsGroup: 65532
      fsGroup: 65532
      seccompProfile:
        type: RuntimeDefault
    containers:
      - name: datapass-pull
        image: "{image}"
        args: {arguments}
        envFrom:
          - configMapRef:
              name: datapass-pull
        env:
          - name: DATAPASS_CLIENT_SECRET_FILE
            value: /run/secrets/datapass-pull/DATAPASS_CLIENT_SECRET
          - name: DATABASE_URL_FILE
            value: /run/secrets/datapass-pull/DATABASE_URL
          # activeDeadlineSeconds follows from it: change both
          - name: DATAPASS_TIMEOUT
            value: "{cycle}"
        # Measured peaks: 14 MB for a listing of 10,000 demandes, 42 MB for one of 100,000. There is
        # no CPU limit, which would only slow the cycle down
        resources:
          requests:
            cpu: 50m
            memory: 64Mi
          limits:
            memory: 128Mi
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities:
            drop: ["ALL"]
        terminationMessagePolicy: FallbackToLogsOnError
        volumeMounts:
          - name: secrets
            mountPath: /run/secrets/datapass-pull
            readOnly: true
    volumes:
      - name: secrets
        secret:
          secretName: datapass-pull
          # 0440, for the fsGroup
          defaultMode: 288
"#
    )
}

/// Returns a Job of its own, every line commented out.
fn one_off(name: &str, purpose: &str, job: &str) -> String {
    let job = indent(job, "  ");
    let document = format!(
        r#"---
# {purpose}
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: datapass-pull
spec:
  ttlSecondsAfterFinished: 86400
{job}"#
    );
    indent(&document, "# ")
}

fn indent(text: &str, prefix: &str) -> String {
    text.lines()
        .map(|line| format!("{prefix}{line}\n"))
        .collect()
}
