{{/* Labels of every object: the manifests' own one, and what charts add. Pods do not have the latter: a new version of the chart alone replaces no Pod. */}}
{{- define "deltaplane.labels" -}}
app.kubernetes.io/part-of: deltaplane
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "deltaplane.image" -}}
{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "deltaplane.pull" -}}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{- define "deltaplane.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Replicas as the agents' --server has them: each address with its port, IPv6 in brackets. */}}
{{- define "deltaplane.server" -}}
{{- $places := list }}
{{- range .Values.controlPlane.addresses }}
{{- $places = append $places (printf (ternary "[%s]:50051" "%s:50051" (contains ":" .)) .) }}
{{- end }}
{{- join "," $places }}
{{- end }}

{{/* What the agents are told by a ConfigMap. */}}
{{- define "deltaplane.agentData" -}}
server: {{ include "deltaplane.server" . | quote }}
cluster-cidr: {{ join "," .Values.clusterCIDRs | quote }}
cluster: {{ .Values.agent.cluster | quote }}
{{- end }}

{{- define "deltaplane.tls" -}}
{{- if ne .Values.certificates.source "insecure" }}yes{{ end }}
{{- end }}

{{- define "deltaplane.ownCertificates" -}}
{{- if eq .Values.certificates.source "own" }}yes{{ end }}
{{- end }}

{{/* iptables' programs are in use: they open raw sockets, and share one lock with everybody else on the node who runs them. */}}
{{- define "deltaplane.iptables" -}}
{{- if has .Values.proxyMode (list "iptables" "ipvs") }}yes{{ end }}
{{- end }}

{{/* The agent itself runs these programs: in those modes, and where it removes what another proxy left. */}}
{{- define "deltaplane.agentIptables" -}}
{{- if or (include "deltaplane.iptables" .) .Values.agent.legacyLeftovers }}yes{{ end }}
{{- end }}

{{/* The token that a Pod shows the control plane, and nobody else takes. Argument: its mode on disk. */}}
{{- define "deltaplane.tokenVolume" -}}
- name: token
  projected:
    defaultMode: {{ . }}
    sources:
      - serviceAccountToken:
          path: token
          audience: deltaplane.dev/control-plane
          expirationSeconds: 3600
{{- end }}

{{/* The place where a trace is sent, if anywhere. */}}
{{- define "deltaplane.traces" -}}
{{- if .Values.tracing.jaeger.enabled }}127.0.0.1:4317{{ else }}{{ .Values.tracing.endpoint }}{{ end }}
{{- end }}
