.PHONY: audit scan-secrets

# Kingfisher, a program in a wheel; not a dependency, because it is large. Nothing that it finds leaves this machine.
SECRET_SCANNER := kingfisher-bin>=2.14,<3

audit: $(UV) ## Look for known vulnerabilities (OSV) of the dependencies; ARGS="--ignore ID"
	$(UV) audit $(ARGS)

scan-secrets: $(UV) ## Look for secrets in the files and in the history of git
	$(UV) tool run --from '$(SECRET_SCANNER)' kingfisher scan . --no-validate --no-update-check --redact $(ARGS)
