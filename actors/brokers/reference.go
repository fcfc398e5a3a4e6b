package brokers

import (
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// ReferenceNamespace is the namespace of the reference's metrics (client-device-auth spec
// 8), whose unit is Count and whose aggregation is Sum.
const ReferenceNamespace = "aws.greengrass.clientdevices.Auth"

// The reference's metrics, as it spells them.
const (
	subscribeSuccess = "SubscribeToCertificateUpdates.Success"
	subscribeFailure = "SubscribeToCertificateUpdates.Failure"
	verifySuccess    = "VerifyClientDeviceIdentity.Success"
	verifyFailure    = "VerifyClientDeviceIdentity.Failure"
	authorizeSuccess = "AuthorizeClientDeviceActions.Success"
	authorizeFailure = "AuthorizeClientDeviceActions.Failure"
	tokenSuccess     = "GetClientDeviceAuthToken.Success"
	tokenFailure     = "GetClientDeviceAuthToken.Failure"
	serviceError     = "ServiceError"
)

// ReferenceNames lists the reference's metrics.
func ReferenceNames() []string {
	return []string{
		subscribeSuccess, subscribeFailure, verifySuccess, verifyFailure, authorizeSuccess, authorizeFailure,
		tokenSuccess, tokenFailure, serviceError,
	}
}

// ReferenceCounts counts requests as the reference does: an answer that is a yes is a
// success, one that is a no a failure, as is a refused credential or token, and what
// failed inside is a ServiceError. What the reference turns away before it counts (bad
// arguments, no permission), and what it does not know (Busy, NotReady), is not counted. A
// device that is being registered is none that it would let in.
//
// authenticate stands for the three calls it replaces. Where it refuses the credential it
// counts as a failed GetClientDeviceAuthToken alone, whichever of the first two said no.
//
// A broker that goes on asking for its certificate subscribes once.
// SubscribeToCertificateUpdates.Failure stays 0: what it counts there, a machine without a
// key algorithm, cannot be here.
func ReferenceCounts(counts []OpCounts) map[string]uint64 {
	sum := make(map[string]uint64)
	for _, c := range counts {
		sum[serviceError] += c.Refused[messages.RefusedService.String()]
		credential := c.Refused[messages.RefusedInvalidCredential.String()] + c.Refused[messages.RefusedPending.String()]
		token := c.Refused[messages.RefusedInvalidToken.String()]
		switch c.Op {
		case authapi.OpVerify:
			sum[verifySuccess] += c.Allowed
			sum[verifyFailure] += c.Denied + credential
		case authapi.OpToken:
			sum[tokenSuccess] += c.Allowed
			sum[tokenFailure] += c.Denied + credential
		case authapi.OpAuthorize:
			sum[authorizeSuccess] += c.Allowed
			sum[authorizeFailure] += c.Denied + token
		case authapi.OpAuthenticate:
			sum[verifySuccess] += c.Allowed + c.Denied
			sum[tokenSuccess] += c.Allowed + c.Denied
			sum[tokenFailure] += credential
			sum[authorizeSuccess] += c.Allowed
			sum[authorizeFailure] += c.Denied
		case authapi.OpCertificates:
			if c.Certificates != nil {
				sum[subscribeSuccess] += c.Certificates.Subscribed
			}
		}
	}
	return sum
}
