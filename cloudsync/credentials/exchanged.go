package credentials

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
)

// Exchanged returns the provider of what x hands out to Gatehouse itself.
func Exchanged(x *tokenexchange.Exchange) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		c, err := x.HandOut(ctx, tokenexchange.Own)
		if err != nil {
			return aws.Credentials{}, err
		}
		// x knows by a better clock than the SDK's when they end, and asking it costs nothing: so
		// the SDK's cache takes them for over at once, and comes back each time.
		return aws.Credentials{
			AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey.Reveal(), SessionToken: c.SessionToken.Reveal(),
			Source: "gatehouse token exchange", CanExpire: true, Expires: time.Unix(0, 0),
		}, nil
	})
}
