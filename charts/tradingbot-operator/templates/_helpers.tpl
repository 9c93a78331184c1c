{{/* Everything that is made has this name, or one that begins with it. */}}
{{- define "tradingbot-operator.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of what belongs to the cluster: two releases of one name, in two namespaces, stay apart. */}}
{{- define "tradingbot-operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "tradingbot-operator.name" .) -}}
{{- end -}}

{{- define "tradingbot-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tradingbot-operator.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is empty: name the service account that is there, or set serviceAccount.create" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tradingbot-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* These alone select the operator's pod. */}}
{{- define "tradingbot-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Takes a dict of image (repository, tag, digest) and version. */}}
{{- define "tradingbot-operator.image" -}}
{{- $tag := .image.tag -}}
{{- if and (not $tag) (not .image.digest) -}}{{- $tag = .version -}}{{- end -}}
{{- .image.repository -}}
{{- with $tag }}:{{ . }}{{ end -}}
{{- with .image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "tradingbot-operator.ownImage" -}}
{{- include "tradingbot-operator.image" (dict "image" .Values.image "version" .Chart.AppVersion) -}}
{{- end -}}

{{- define "tradingbot-operator.environment" -}}
- name: TRADINGBOT_OPERATOR_NAMESPACES
  value: {{ .Values.watchNamespaces | join "," | quote }}
- name: TRADINGBOT_OPERATOR_AGENTS_IMAGE
  value: {{ include "tradingbot-operator.image" (dict "image" .Values.agents.image "version" .Chart.AppVersion) | quote }}
- name: TRADINGBOT_OPERATOR_LOG_LEVEL
  value: {{ .Values.logLevel }}
- name: TRADINGBOT_OPERATOR_LOG_FORMAT
  value: {{ .Values.logFormat }}
{{- end -}}

{{- define "tradingbot-operator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "tradingbot-operator.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What all pods of the chart have. */}}
{{- define "tradingbot-operator.pod" -}}
# The addresses of all Services of the namespace as variables are of no use.
enableServiceLinks: false
# What is told to end in its first moments hears it: a container's first process would not yet.
shareProcessNamespace: true
securityContext:
  {{- include "tradingbot-operator.podSecurity" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
