package associations

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"

	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

const action = "greengrass:ListClientDevicesAssociatedWithCoreDevice"

// Bounds of a listing.
const (
	pageSize       = 100 // the most AWS gives (cloud spec 1.2)
	pagesMax       = 20_000
	emptyPagesMax  = 10 // in a row that bring nothing new and promise more
	tokenBytesMax  = 8 << 10
	triesMax       = 3  // for one page, each of up to three attempts of the SDK (cloud spec 1.5)
	waitsMax       = 30 // between tries, in one listing
	waitMin        = 30 * time.Second
	waitMax        = 3 * time.Minute
	retryAfterMax  = 5 * time.Minute
	defaultTimeout = 10 * time.Second
)

// Config says who asks and how.
type Config struct {
	Control control.Config     // Timeout is for one exchange: 10 s by default
	Core    messages.ThingName // the core's own name. Required
	// Attempts are the SDK's at one page, with waits by the machine's clock between them.
	// Default 3.
	Attempts int
	// AfterFunc calls f once, on any goroutine, when d has passed, unless stop comes
	// first. Default: the machine's clock. The SDK's own waits, under a minute for a page,
	// are by the machine's clock in any case.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	// Jitter returns a number in [0, 1). Default: rand.Float64.
	Jitter func() float64
}

// Lister lists associations. It is safe for use by many goroutines at once.
type Lister struct {
	cfg     Config
	control *control.Client
	client  *greengrassv2.Client
	host    string // for people
	// Tests have fewer.
	pagesMax int
}

// New checks cfg and returns a lister. It connects to nothing yet. Close it.
func New(cfg Config) (*Lister, error) {
	return newLister(cfg, retry.NewStandard(func(o *retry.StandardOptions) {
		if cfg.Attempts > 0 {
			o.MaxAttempts = cfg.Attempts
		}
	}))
}

func newLister(cfg Config, retryer aws.Retryer) (*Lister, error) {
	if _, err := messages.ParseThingName(string(cfg.Core)); err != nil {
		return nil, fmt.Errorf("associations: the core's thing name: %w", err)
	}
	c, err := control.New(cfg.Control, defaultTimeout)
	if err != nil {
		return nil, fmt.Errorf("associations: %w", err)
	}
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = afterFunc
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	l := &Lister{cfg: cfg, control: c, host: "AWS IoT Greengrass in " + c.Region, pagesMax: pagesMax}
	if c.BaseEndpoint != nil {
		l.host = *c.BaseEndpoint
	}
	l.client = greengrassv2.New(greengrassv2.Options{
		Region: c.Region, BaseEndpoint: c.BaseEndpoint, Credentials: c.Credentials, HTTPClient: c, HTTPSignerV4: c, Retryer: retryer,
	})
	return l, nil
}

// Close drops idle connections.
func (l *Lister) Close() { l.control.Close() }

// List reads all pages. It returns when it has them, when it gives up, or soon after ctx
// ends; with throttling that can be minutes. progress, if not nil, hears after each page
// how many things and pages there are so far.
func (l *Lister) List(ctx context.Context, progress func(things, pages int)) messages.AssociationList {
	r := run{lister: l}
	r.restart()
	restarted := false
	for {
		failure := r.page(ctx)
		// A token that is refused may be too old by now: once, all is read again.
		if failure != nil && failure.Name == validation && r.token != "" && !restarted {
			restarted = true
			r.restart()
			continue
		}
		if failure != nil {
			return r.failed(failure)
		}
		if progress != nil {
			progress(len(r.things), r.pages)
		}
		if r.token == "" {
			return messages.AssociationList{
				Complete: true, Things: slices.Sorted(maps.Keys(r.things)), Pages: r.pages, Date: r.date,
				Detail: wire.Detail("%d things are associated with %s (%d pages)", len(r.things), l.cfg.Core, r.pages),
			}
		}
	}
}

// Names of errors that are judged here.
const (
	validation = "ValidationException"
	notFound   = "ResourceNotFoundException"
)

// run is one listing.
type run struct {
	lister *Lister
	things map[messages.ThingName]struct{}
	tokens map[[sha256.Size]byte]struct{} // that were followed
	token  string                         // of the next page
	pages  int                            // that were read
	empty  int                            // of them, the last in a row that brought nothing new
	waits  int
	date   time.Time
}

func (r *run) restart() {
	r.things, r.tokens = map[messages.ThingName]struct{}{}, map[[sha256.Size]byte]struct{}{}
	r.token, r.pages, r.empty = "", 0, 0
}

func (r *run) failed(f *control.Failure) messages.AssociationList {
	if !f.Date.IsZero() {
		r.date = f.Date
	}
	return messages.AssociationList{
		Pages: r.pages, Failure: f.Class, Date: r.date,
		Detail: wire.Detail("page %d: %s", r.pages+1, f.Detail),
	}
}

// page reads the next page, and tries again where that may help: a throttling or failing
// service gets time, more of it if it asks for it.
func (r *run) page(ctx context.Context) *control.Failure {
	wait := waitMin
	for try := 1; ; try++ {
		failure := r.try(ctx)
		if failure == nil {
			return nil
		}
		again := failure.Class == messages.FailureThrottled || failure.Class == messages.FailureServer && failure.Status >= 500
		if !again {
			return failure
		}
		if try == triesMax || r.waits == waitsMax {
			failure.Detail = fmt.Sprintf("given up after %d tries: %s", try, failure.Detail)
			return failure
		}
		r.waits++
		if err := r.lister.wait(ctx, max(wait/2+time.Duration(r.lister.cfg.Jitter()*float64(wait/2)), min(failure.RetryAfter, retryAfterMax))); err != nil {
			return r.lister.control.Explain(err, r.lister.host, action)
		}
		wait = min(2*wait, waitMax)
	}
}

// try reads the next page.
func (r *run) try(ctx context.Context) *control.Failure {
	l := r.lister
	input := &greengrassv2.ListClientDevicesAssociatedWithCoreDeviceInput{CoreDeviceThingName: aws.String(string(l.cfg.Core)), MaxResults: aws.Int32(pageSize)}
	if r.token != "" {
		input.NextToken = aws.String(r.token)
	}
	output, err := l.client.ListClientDevicesAssociatedWithCoreDevice(ctx, input)
	if err != nil {
		failure := l.control.Explain(err, l.host, action)
		if failure.Name == notFound {
			failure.Detail = fmt.Sprintf("HTTP %d %s: AWS knows no core device %s in %s: check cloud.thingName and cloud.region", failure.Status, notFound, l.cfg.Core, l.control.Region)
		}
		return failure
	}
	if err := r.add(output); err != nil {
		return &control.Failure{Class: messages.FailureNotService, Detail: err.Error()}
	}
	if date, ok := awsmiddleware.GetServerTime(output.ResultMetadata); ok {
		r.date = date.UTC()
	}
	return nil
}

// add takes a page. An error means that the listing cannot be relied on.
func (r *run) add(page *greengrassv2.ListClientDevicesAssociatedWithCoreDeviceOutput) error {
	if page.AssociatedClientDevices == nil {
		return errors.New("there is no associatedClientDevices in the answer: an empty list is [], so this is none")
	}
	before := len(r.things)
	for i, device := range page.AssociatedClientDevices {
		name, err := messages.ParseThingName(aws.ToString(device.ThingName))
		if err != nil {
			return fmt.Errorf("device %d has no thing's name: %w", i+1, err)
		}
		r.things[name] = struct{}{}
	}
	if n := len(r.things) - before; n > pageSize {
		return fmt.Errorf("%d devices on a page, asked for %d: not an answer to this question", n, pageSize)
	}
	if r.empty++; len(r.things) > before {
		r.empty = 0
	}
	token := aws.ToString(page.NextToken)
	if err := r.follow(token); err != nil {
		return err
	}
	r.token = token
	r.pages++
	return nil
}

// follow says whether there may be a page after this one, by its token.
func (r *run) follow(token string) error {
	if token == "" {
		return nil
	}
	digest := sha256.Sum256([]byte(token))
	_, repeated := r.tokens[digest]
	r.tokens[digest] = struct{}{}
	switch {
	case repeated:
		return errors.New("its token was given before: the listing goes round in circles")
	case len(token) > tokenBytesMax:
		return fmt.Errorf("a token of %d bytes, at most %d are followed", len(token), tokenBytesMax)
	case r.empty >= emptyPagesMax:
		return fmt.Errorf("%d pages in a row bring nothing new and promise more", r.empty)
	case r.pages+1 >= r.lister.pagesMax:
		return fmt.Errorf("more than %d pages", r.lister.pagesMax)
	}
	return nil
}

// wait returns nil after d, or why ctx ended before.
func (l *Lister) wait(ctx context.Context, d time.Duration) error {
	over := make(chan struct{})
	stop := l.cfg.AfterFunc(d, func() { close(over) })
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		stop()
		return ctx.Err()
	}
}
