// Package config reads what an operator writes: Gatehouse's own file, gatehouse.yaml,
// and inside it the section clientDeviceAuth, which is the configuration of the
// Greengrass component aws.greengrass.clientdevices.Auth, word for word.
//
// The two are read by different rules on purpose. The section is lenient as
// Greengrass is: keys match without regard to case, numbers may be text, a value out
// of range is clamped, an unknown key is only reported (client-device-auth spec 1).
// Gatehouse's own keys are strict: what is not known is an error, with a suggestion.
// Both accept YAML and JSON, and both say line, column, path, what was expected and
// what to do.
//
// The package is pure: it reads bytes it is given and never a file.
package config
