{{/* Name of the chart. */}}
{{- define "llmspell-storage.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{/* Name of every object; it holds the release's name, so that releases do not meet. */}}
{{- define "llmspell-storage.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- $name := include "llmspell-storage.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "llmspell-storage.selectorLabels" -}}
app.kubernetes.io/name: {{ include "llmspell-storage.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "llmspell-storage.labels" -}}
{{ include "llmspell-storage.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: llmspell-storage
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "llmspell-storage.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "llmspell-storage.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "llmspell-storage.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The release's namespace and the listed ones, each once, as a JSON list. */}}
{{- define "llmspell-storage.namespaces" -}}
{{- prepend .Values.watchNamespaces .Release.Namespace | uniq | toJson }}
{{- end }}

{{/* What the operator does to our kinds, Secrets and Events wherever it watches. */}}
{{- define "llmspell-storage.rules" -}}
- apiGroups: [storage.llmspell.dev]
  resources: [storageclusters, storagecomponents, tenants]
  verbs: [get, list, watch, patch]
- apiGroups: [storage.llmspell.dev]
  resources: [storageclusters/status, storagecomponents/status, tenants/status]
  verbs: [get, patch]
- apiGroups: [storage.llmspell.dev]
  resources: [storageclusters/finalizers, storagecomponents/finalizers, tenants/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* Mistakes that a schema of single values cannot see. */}}
{{- define "llmspell-storage.validate" -}}
{{- with .Values }}
{{- if and (gt (int .replicas) 1) (not .leaderElection.enabled) }}
{{- fail "replicas above 1 need leaderElection.enabled: two operators must not work at once" }}
{{- end }}
{{- $lease := .leaderElection }}
{{- if not (and (lt (int $lease.retryPeriodSeconds) (int $lease.renewDeadlineSeconds)) (lt (int $lease.renewDeadlineSeconds) (int $lease.durationSeconds))) }}
{{- fail "leaderElection needs retryPeriodSeconds < renewDeadlineSeconds < durationSeconds" }}
{{- end }}
{{- if and .rbac.clusterWideSecrets .watchNamespaces }}
{{- fail "rbac.clusterWideSecrets watches every namespace: leave watchNamespaces empty, or prefer it and leave clusterWideSecrets off" }}
{{- end }}
{{- end }}
{{- end }}
