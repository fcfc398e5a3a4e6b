package connectivity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/messages"
)

const (
	action         = "greengrass:GetConnectivityInfo"
	timeoutDefault = 10 * time.Second
	anyRegion      = "us-east-1" // the SDK wants one; nothing is signed
	validation     = "ValidationException"
	notFound       = "ResourceNotFoundException"
	statusInvalid  = 400
	statusAbsent   = 404
)

// Client asks for one core's addresses. It is a shadow.Source, and safe for use by many
// goroutines at once.
type Client struct {
	core    messages.ThingName
	host    string // for people
	control *control.Client
	client  *greengrassv2.Client
}

// New checks cfg, of which Routes is not used, and returns a client for core. Timeout is 10
// s by default. It connects to nothing yet. Close it.
func New(cfg cloudsync.DataPlaneConfig, core messages.ThingName) (*Client, error) {
	if _, err := messages.ParseThingName(string(core)); err != nil {
		return nil, fmt.Errorf("connectivity information: the core's thing name: %w", err)
	}
	if len(cfg.Identity.Certificate) == 0 || cfg.Identity.PrivateKey == nil {
		return nil, errors.New("connectivity information: the core's certificate and key are missing: AWS knows the core by them")
	}
	base, err := cloudsync.ParseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("connectivity information: %w", err)
	}
	plane, err := control.New(control.Config{
		Identity: &cfg.Identity, Endpoint: base.String(), Roots: cfg.Roots, ServerName: cfg.ServerName, Timeout: cfg.Timeout, ConnectTimeout: cfg.ConnectTimeout, Proxy: cfg.Proxy, Now: cfg.Now,
	}, timeoutDefault)
	if err != nil {
		return nil, fmt.Errorf("connectivity information: %w", err)
	}
	return &Client{core: core, host: base.Host, control: plane, client: greengrassv2.New(greengrassv2.Options{
		Region: anyRegion, BaseEndpoint: plane.BaseEndpoint, Credentials: plane.Credentials, HTTPClient: plane,
		Retryer: aws.NopRetryer{}, // who asks tries again, without end
	})}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.control.Close() }

// Error is why the cloud did not answer.
type Error struct{ *control.Failure }

// Error says what was wrong, and what to do.
func (e *Error) Error() string { return e.Detail }

// RetryAfter is how long the service wants to be left alone; 0: it did not say.
func (e *Error) RetryAfter() time.Duration { return e.Failure.RetryAfter }

// Addresses asks once. known is false if the cloud has no connectivity information of the
// core, which says nothing about addresses that are stored (client-device-auth spec 6.7).
// The addresses are in the answer's order, without repeats; ports and metadata are dropped.
// Only the answer's size bounds them (1 MiB): how many are taken is the keeper's matter, so
// that no list is too long for all of its addresses.
func (c *Client) Addresses(ctx context.Context) (hosts []string, known bool, err error) {
	output, err := c.client.GetConnectivityInfo(ctx, &greengrassv2.GetConnectivityInfoInput{ThingName: aws.String(string(c.core))})
	if err != nil {
		failure := c.control.Explain(err, c.host, action)
		if (failure.Name == validation || failure.Name == notFound) && (failure.Status == statusInvalid || failure.Status == statusAbsent) {
			return nil, false, nil
		}
		return nil, false, &Error{failure}
	}
	if output.ConnectivityInfo == nil {
		return nil, false, nil // an empty list is [], so this is none
	}
	hosts = []string{}
	seen := map[string]bool{"": true}
	for _, address := range output.ConnectivityInfo {
		if host := aws.ToString(address.HostAddress); !seen[host] {
			seen[host] = true
			hosts = append(hosts, host)
		}
	}
	return hosts, true, nil
}
