package main

import (
	"fmt"
	"strings"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// awsEnv is a file for the shell to read, after which stock tools talk to the emulated
// cloud. awscli before 2.13 needs --endpoint-url "$AWS_ENDPOINT_URL" besides.
func awsEnv(e *awsemu.Emulator, authority string) []byte {
	keys := e.AdminCredentials()
	var b strings.Builder
	fmt.Fprintf(&b, "# Talk to the emulated cloud of gatehouse dev, while it runs: . aws.env\n")
	fmt.Fprintf(&b, "unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN\n")
	for _, v := range [][2]string{
		{"AWS_ENDPOINT_URL", e.ControlURL()},
		{"AWS_CA_BUNDLE", authority},
		{"AWS_REGION", awsemu.Region},
		{"AWS_DEFAULT_REGION", awsemu.Region},
		{"AWS_ACCESS_KEY_ID", keys.AccessKeyID},
		{"AWS_SECRET_ACCESS_KEY", keys.SecretAccessKey},
		{"AWS_EC2_METADATA_DISABLED", "true"}, // nobody is to be asked elsewhere
		{"AWS_PAGER", ""},
	} {
		fmt.Fprintf(&b, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	return []byte(b.String())
}
