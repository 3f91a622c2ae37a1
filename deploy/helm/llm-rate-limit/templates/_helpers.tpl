{{/* The name of everything that the chart makes. */}}
{{- define "llm-rate-limit.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "llm-rate-limit.selector" -}}
app.kubernetes.io/name: llm-rate-limit
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: sidecar
{{- end -}}

{{- define "llm-rate-limit.labels" -}}
{{ include "llm-rate-limit.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The image, which the user must name: it is in the registry that they pushed it to. */}}
{{- define "llm-rate-limit.image" -}}
{{- $why := "image.repository: push the image of a release to your registry (make publish), or build the target \"sidecar\" of envoy/Dockerfile, and set its name, such as registry.example/llm-rate-limit" -}}
{{- $repository := required $why .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The Secrets that have the token and Redis's URL. */}}
{{- define "llm-rate-limit.tokenSecret" -}}
{{- .Values.auth.existingSecret | default (include "llm-rate-limit.name" .) -}}
{{- end -}}

{{- define "llm-rate-limit.redisSecret" -}}
{{- .Values.redis.existingSecret | default (include "llm-rate-limit.name" .) -}}
{{- end -}}

{{/* Fails, with a message that names the value, if what the sidecar cannot do without is not there, or is there twice. */}}
{{- define "llm-rate-limit.check" -}}
{{- $auth := .Values.auth -}}
{{- $redis := .Values.redis -}}
{{- if and (not $auth.token) (not $auth.existingSecret) -}}
{{- fail "auth.token: set a token of your own, as `openssl rand -hex 16` prints, or auth.existingSecret to a Secret that has it" -}}
{{- end -}}
{{- if and $auth.token $auth.existingSecret -}}
{{- fail "auth.token: auth.existingSecret is set too; set one of them" -}}
{{- end -}}
{{- if and (not $redis.url) (not $redis.existingSecret) -}}
{{- fail "redis.url: set the URL of your Redis, such as redis://redis.example:6379, or redis.existingSecret to a Secret that has it" -}}
{{- end -}}
{{- if and $redis.url $redis.existingSecret -}}
{{- fail "redis.url: redis.existingSecret is set too; set one of them" -}}
{{- end -}}
{{- $scaling := .Values.autoscaling -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas: %d is more than autoscaling.maxReplicas, %d" (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and .Values.monitor.enabled (eq .Values.mode "gateway") (not .Values.gateway.podLabels) -}}
{{- fail "gateway.podLabels: set the labels of the gateway's pods, which the PodMonitor selects" -}}
{{- end -}}
{{- end -}}

{{/* Where the files with what Redis asks for are. */}}
{{- define "llm-rate-limit.redisFiles" -}}
{{- $redis := .Values.redis -}}
{{- if or $redis.passwordSecret.name $redis.caSecret.name $redis.certSecret.name -}}true{{- end -}}
{{- end -}}

{{/* The ports that the sidecar may call, as JSON: those of the values, and those of the URL, after what may be a password. */}}
{{- define "llm-rate-limit.redisPorts" -}}
{{- $ports := list -}}
{{- range .Values.networkPolicy.redisPorts -}}
{{- $ports = append $ports (int .) -}}
{{- end -}}
{{- $hosts := regexReplaceAll "[^/,]*@" (.Values.redis.url | default "") "" -}}
{{- range regexFindAll ":[0-9]+([,/?#]|$)" $hosts -1 -}}
{{- $ports = append $ports (regexFind "[0-9]+" . | int) -}}
{{- end -}}
{{- if and (contains "+sentinel://" $hosts) (regexMatch "(//|,)[^:/,]+([,/]|$)" $hosts) -}}
{{- $ports = append $ports 26379 -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{- define "llm-rate-limit.redisVolume" -}}
name: llm-rate-limit-redis
projected:
  # In a pod of its own, the group is that of the process.
  defaultMode: {{ if eq .Values.mode "gateway" }}0444{{ else }}0440{{ end }}
  sources:
  {{- with .Values.redis.passwordSecret }}
  {{- if .name }}
  - secret:
      name: {{ .name }}
      items: [{key: {{ .key }}, path: password}]
  {{- end }}
  {{- end }}
  {{- with .Values.redis.caSecret }}
  {{- if .name }}
  - secret:
      name: {{ .name }}
      items: [{key: {{ .key }}, path: ca.crt}]
  {{- end }}
  {{- end }}
  {{- with .Values.redis.certSecret }}
  {{- if .name }}
  - secret:
      name: {{ .name }}
      items: [{key: {{ .certKey }}, path: tls.crt}, {key: {{ .keyKey }}, path: tls.key}]
  {{- end }}
  {{- end }}
{{- end -}}

{{/* The container, but for its probes: in a gateway's pod they must not be what they are in a pod of its own. */}}
{{- define "llm-rate-limit.container" -}}
image: {{ include "llm-rate-limit.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [sidecar]
env:
- {name: LISTEN, value: "0.0.0.0:8081"}
- name: AUTH_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ include "llm-rate-limit.tokenSecret" . }}, key: {{ if .Values.auth.existingSecret }}{{ .Values.auth.existingSecretKey }}{{ else }}AUTH_TOKEN{{ end }}}
- name: REDIS_URL
  valueFrom:
    secretKeyRef: {name: {{ include "llm-rate-limit.redisSecret" . }}, key: {{ if .Values.redis.existingSecret }}{{ .Values.redis.existingSecretKey }}{{ else }}REDIS_URL{{ end }}}
{{- if .Values.redis.passwordSecret.name }}
- {name: REDIS_PASSWORD_FILE, value: /etc/llm-rate-limit/redis/password}
{{- end }}
{{- if .Values.redis.caSecret.name }}
- {name: REDIS_CA, value: /etc/llm-rate-limit/redis/ca.crt}
{{- end }}
{{- if .Values.redis.certSecret.name }}
- {name: REDIS_CERT, value: /etc/llm-rate-limit/redis/tls.crt}
- {name: REDIS_KEY, value: /etc/llm-rate-limit/redis/tls.key}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
ports:
- {name: {{ if eq .Values.mode "gateway" }}llm-rate-limit{{ else }}http{{ end }}, containerPort: 8081, protocol: TCP}
lifecycle:
  # After SIGTERM the sidecar accepts no connections: until then, the gateways learn that this pod goes.
  preStop:
    sleep: {seconds: 5}
securityContext:
  {{- if eq .Values.mode "gateway" }}
  runAsNonRoot: true
  runAsUser: {{ .Values.runAsUser }}
  runAsGroup: {{ .Values.runAsUser }}
  seccompProfile: {type: RuntimeDefault}
  {{- end }}
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- if include "llm-rate-limit.redisFiles" . }}
volumeMounts:
- {name: llm-rate-limit-redis, mountPath: /etc/llm-rate-limit/redis, readOnly: true}
{{- end }}
{{- end -}}
