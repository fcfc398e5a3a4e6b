package awsemu

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// describeEndpoint names the data plane, which is the account's IoT data endpoint too
// (cloud spec 0), or the credentials provider. AWS answers a host alone, whose ports are known; here the port is not,
// and is told.
func (e *Emulator) describeEndpoint(c *call) (any, *apiError) {
	switch given := c.query.Get("endpointType"); given {
	case "iot:Data-ATS":
		return map[string]string{"endpointAddress": e.reach(e.data)}, nil
	case "iot:CredentialProvider":
		return map[string]string{"endpointAddress": e.reach(e.credentials)}, nil
	case "", "iot:Data", "iot:Jobs": // measured: cloud spec 0. The default is iot:Data
		return nil, badRequest("The endpoint types iot:Data and iot:Jobs are retired: ask for iot:Data-ATS")
	default:
		return nil, badRequest(fmt.Sprintf("Endpoint type %.60q is not supported: want iot:Data-ATS or iot:CredentialProvider", given))
	}
}

// derivedUUID gives an id that stays the same.
func derivedUUID(kind, name string) string {
	sum := sha256.Sum256([]byte(kind + "/" + name))
	return formatUUID(hex.EncodeToString(sum[:16]))
}
