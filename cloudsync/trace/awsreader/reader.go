package awsreader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
)

// Bounds of what is read. What a trace needs is less.
const (
	defaultTimeout  = 10 * time.Second
	pageSize        = 100
	pagesMax        = 20
	attempts        = 3
	backoffMax      = 2 * time.Second
	rolePoliciesMax = 20 // of each kind; IAM allows 20 that are attached
	tokenBytesMax   = 8 << 10
)

// globalRegion is what IAM is signed for where it is AWS's own: it has no regions.
const globalRegion = "us-east-1"

// Reader is a trace.Reader over AWS's control planes. Close it.
type Reader struct {
	control *control.Client
	xml     *wire.Client
	iot     *iot.Client
	green   *greengrassv2.Client
	iam     *iam.Client
	host    string
	clock   trace.ClockConfig
	now     func() time.Time
	ahead   atomic.Pointer[time.Duration] // of the last answer's Date; nil: none yet
}

// New checks cfg and returns a reader. It connects to nothing yet.
func New(cfg control.Config) (*Reader, error) {
	c, err := control.New(cfg, defaultTimeout)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	r := &Reader{control: c, now: cfg.Now, host: "AWS in " + c.Region}
	if r.xml, err = wire.NewClient(wire.Config{
		Roots: cfg.Roots, Now: cfg.Now, Timeout: c.Timeout, ConnectTimeout: cfg.ConnectTimeout, ServerName: cfg.ServerName, Proxy: cfg.Proxy,
	}); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	if c.BaseEndpoint != nil {
		r.host = *c.BaseEndpoint
	}
	resolved, err := iot.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), iot.EndpointParameters{Region: &c.Region, Endpoint: c.BaseEndpoint})
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	r.clock = trace.ClockConfig{URL: resolved.URI.String(), Roots: cfg.Roots, ServerName: cfg.ServerName, Now: cfg.Now, Timeout: c.Timeout}
	retryer := newRetryer()
	json, xml := &dated{c, r}, &dated{xmlOnly{r.xml}, r}
	r.iot = iot.New(iot.Options{Region: c.Region, BaseEndpoint: c.BaseEndpoint, Credentials: c.Credentials, HTTPClient: json, HTTPSignerV4: c, Retryer: retryer})
	r.green = greengrassv2.New(greengrassv2.Options{Region: c.Region, BaseEndpoint: c.BaseEndpoint, Credentials: c.Credentials, HTTPClient: json, HTTPSignerV4: c, Retryer: retryer})
	region := c.Region
	if c.BaseEndpoint != nil {
		region = globalRegion
	}
	r.iam = iam.New(iam.Options{Region: region, BaseEndpoint: c.BaseEndpoint, Credentials: c.Credentials, HTTPClient: xml, HTTPSignerV4: c, Retryer: retryer})
	return r, nil
}

// newRetryer tries again what is throttled or failed there. A signature that was refused for its
// time is made anew, by the time of that answer. What is not reached is not tried again: a
// trace asks much, and has a person waiting.
func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff = attempts, backoffMax
		codes := map[string]struct{}{"InvalidSignatureException": {}, "SignatureDoesNotMatch": {}, "RequestExpired": {}, "RequestTimeTooSkewed": {}}
		maps.Copy(codes, retry.DefaultThrottleErrorCodes)
		o.Retryables = []retry.IsErrorRetryable{
			retry.NoRetryCanceledError{}, retry.RetryableErrorCode{Codes: codes}, retry.RetryableHTTPStatusCode{Codes: retry.DefaultRetryableHTTPStatusCodes},
		}
	})
}

// Close drops idle connections.
func (r *Reader) Close() {
	r.control.Close()
	r.xml.Close()
}

// Skew implements trace.Reader.
func (r *Reader) Skew() (time.Duration, bool) {
	if ahead := r.ahead.Load(); ahead != nil {
		return *ahead, true
	}
	return 0, false
}

// Clock asks AWS IoT for its time; see trace.Config.
func (r *Reader) Clock(ctx context.Context) (trace.ClockReading, error) {
	return trace.ReadClock(ctx, r.clock)
}

// dated notes the time of each answer.
type dated struct {
	aws.HTTPClient
	r *Reader
}

// Do implements aws.HTTPClient.
func (d *dated) Do(request *http.Request) (*http.Response, error) {
	asked := d.r.now()
	answer, err := d.HTTPClient.Do(request)
	if err != nil {
		return nil, err
	}
	if date := wire.Date(answer.Header); !date.IsZero() {
		ahead := trace.SkewOf(asked, d.r.now(), date)
		d.r.ahead.Store(&ahead)
	}
	return answer, nil
}

// xmlOnly lets through what IAM can have said: bounded, not redirected, XML.
type xmlOnly struct{ client *wire.Client }

// Do implements aws.HTTPClient.
func (x xmlOnly) Do(request *http.Request) (*http.Response, error) {
	answer, err := x.client.Do(request)
	if err != nil {
		return nil, err
	}
	media := answer.Header.Get("Content-Type")
	if !strings.HasPrefix(media, "text/xml") && !strings.HasPrefix(media, "application/xml") || wire.Packed(answer.Header) {
		_, _ = io.Copy(io.Discard, answer.Body)
		return nil, fmt.Errorf("HTTP %d with content type %.40q is no answer of IAM: check the endpoint, and for a proxy or captive portal", answer.StatusCode, media)
	}
	return answer, nil
}

// explain makes a ReadError of why a call for action failed.
func (r *Reader) explain(err error, action string) error {
	f := r.control.Explain(err, r.host, action)
	e := &trace.ReadError{Action: action, Detail: f.Detail}
	switch f.Name {
	case "ResourceNotFoundException", "NoSuchEntity", "NoSuchEntityException":
		e.Kind = trace.NotFound
	case "AccessDeniedException", "AccessDenied", "UnauthorizedException", "NotAuthorizedException", "UnauthorizedOperation":
		e.Kind = trace.Denied
	}
	return e
}

var errEndless = errors.New("the listing has more pages than can be, or goes round in circles")

// list reads the pages of a listing, at most so many entries; more says that there are others.
func list[T any](ctx context.Context, limit int, page func(ctx context.Context, token *string) (entries []T, next *string, err error)) (all []T, more bool, err error) {
	var token *string
	seen := map[string]bool{}
	for range pagesMax {
		entries, next, err := page(ctx, token)
		if err != nil {
			return nil, false, err
		}
		if all = append(all, entries...); len(all) > limit {
			return all[:limit], true, nil
		}
		text := aws.ToString(next)
		if text == "" {
			return all, false, nil
		}
		if seen[text] || len(text) > tokenBytesMax {
			return nil, false, errEndless
		}
		seen[text], token = true, next
	}
	return all, true, nil
}

// whole is a listing that must be complete to be of use.
func whole[T any](all []T, more bool, err error) ([]T, error) {
	if err == nil && more {
		err = &trace.ReadError{Detail: fmt.Sprintf("there are more than %d, which were not all read", len(all))}
	}
	return all, err
}
