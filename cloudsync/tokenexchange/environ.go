package tokenexchange

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Path is where the credentials are served (cloud spec 3.1); its last slash belongs to it.
const Path = "/2016-11-01/credentialprovider/"

// The variables by which AWS's SDKs find the service. Older ones (awscli 2.9, boto3 1.26) do
// not know the file; newer ones read it anew for each request, and prefer it.
const (
	VariableURI       = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
	VariableToken     = "AWS_CONTAINER_AUTHORIZATION_TOKEN"
	VariableTokenFile = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
	VariableRegion    = "AWS_REGION"
	VariableRegionOld = "AWS_DEFAULT_REGION"
)

var variables = []string{VariableURI, VariableToken, VariableTokenFile, VariableRegion, VariableRegionOld}

// rivals would give a program other credentials, or win over these (cloud spec 3.2).
var rivals = []string{
	"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
	"AWS_CREDENTIAL_EXPIRATION", "AWS_CREDENTIAL_FILE", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
}

// shadowed are the user's own files, whose credentials would win, too.
var shadowed = []string{"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"}

// ConsumerEnvironment is the file that holds a consumer's variables; shared is where the
// consumers' folders are.
func ConsumerEnvironment(shared, name string) string {
	return filepath.Join(shared, name, EnvironmentFile)
}

// ReadEnvironment reads that file: the five variables, as NAME=VALUE, and no others.
func ReadEnvironment(path string) ([]string, error) {
	text, err := readSmall(path, environBytesMax)
	if err != nil {
		return nil, err
	}
	list, err := parseEnvironment(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

func parseEnvironment(text string) ([]string, error) {
	var list, names []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		name, value, ok := strings.Cut(line, "=")
		if !ok || !slices.Contains(variables, name) || slices.Contains(names, name) || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return nil, errors.New("a line that is none of the variables of token exchange, once each")
		}
		names, list = append(names, name), append(list, line)
	}
	if !slices.Contains(names, VariableURI) || !slices.Contains(names, VariableToken) {
		return nil, fmt.Errorf("no %s and %s", VariableURI, VariableToken)
	}
	return list, nil
}

// Environ is environ with the variables in it, and without what would win over them.
func Environ(environ, variables []string) []string {
	given := map[string]bool{VariableURI: true, VariableToken: true, VariableTokenFile: true}
	for _, v := range variables {
		name, _, _ := strings.Cut(v, "=")
		given[name] = true
	}
	result := slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return given[name] || slices.Contains(rivals, name) || slices.Contains(shadowed, name)
	})
	for _, name := range shadowed {
		result = append(result, name+"=/dev/null")
	}
	return append(result, variables...)
}
