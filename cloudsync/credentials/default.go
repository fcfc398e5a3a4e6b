// Package credentials finds the role's credentials for AWS' control planes where AWS's own
// tools find them.
package credentials

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// fetchTimeout bounds one request for credentials: who asks has a device waiting.
const fetchTimeout = 2 * time.Second

// Options narrow the search.
type Options struct {
	Region  string // where a role is assumed, if a profile says to
	Profile string // of the shared files; empty: AWS_PROFILE, or default
}

// Static returns the given keys, which do not change; session is empty for a user's.
func Static(key, secret, session string) aws.CredentialsProvider {
	return awscredentials.NewStaticCredentialsProvider(key, secret, session)
}

// Default returns the SDK's default chain: the environment's keys, the shared files' profile,
// and the endpoint that AWS_CONTAINER_CREDENTIALS_FULL_URI names with its token, which is how
// Greengrass' token exchange service is found. A virtual machine's metadata is not asked: on
// a machine that has none it would hold up each question. Without any of these the provider
// is there, and fails when it is asked. An error is about files that cannot be used.
func Default(ctx context.Context, o Options) (aws.CredentialsProvider, error) {
	// The SDK's own kind of client, since AWS_CA_BUNDLE can be added to no other.
	client := awshttp.NewBuildableClient().WithTimeout(fetchTimeout).WithTransportOptions(func(t *http.Transport) {
		t.Proxy = nil // credentials go nowhere but where they are asked for
	})
	options := []func(*config.LoadOptions) error{
		config.WithEC2IMDSClientEnableState(imds.ClientDisabled),
		config.WithHTTPClient(client),
		// The SDK gives that client to all but the endpoint's provider.
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = endpoint{client} }),
		config.WithRegion(o.Region),
	}
	if o.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(o.Profile))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return loaded.Credentials, nil
}
