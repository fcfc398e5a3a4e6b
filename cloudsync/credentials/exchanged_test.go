package credentials

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// brief is a clock that moves by hand, and a source of sets that last an hour by it.
type brief struct {
	asked int
	boot  time.Duration
	no    *tokenexchange.Failure
}

func (b *brief) Fetch(context.Context) (tokenexchange.Fetched, *tokenexchange.Failure) {
	b.asked++
	return tokenexchange.Fetched{
		Credentials: tokenexchange.Credentials{AccessKeyID: fmt.Sprint("ASIA", b.asked), SecretAccessKey: "s", SessionToken: "t"}, Lifetime: time.Hour,
	}, b.no
}

func (*brief) Close() {}

func (b *brief) Boot() time.Duration { return b.boot }

func (*brief) AfterFunc(time.Duration, func()) func() bool { return func() bool { return true } }

// The SDK's own cache keeps nothing: when credentials are over is said by the exchange's clock.
func TestTheSDKAsksTheExchangeEachTime(t *testing.T) {
	b := &brief{boot: time.Hour}
	cache, err := tokenexchange.NewCache(tokenexchange.CacheConfig{Source: b, Clock: b, Chance: func() float64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	x := tokenexchange.NewExchange(cache, b, "alias")
	var recorded []string
	x.Record(func(_ context.Context, e *messages.CredentialsServed) error {
		recorded = append(recorded, e.Consumer+" "+e.AccessKeyId)
		return nil
	})
	provider := aws.NewCredentialsCache(Exchanged(x))
	for _, step := range []struct {
		passes time.Duration
		want   string
	}{{0, "ASIA1"}, {59 * time.Minute, "ASIA1"}, {time.Minute, "ASIA2"}} {
		b.boot += step.passes
		got, err := provider.Retrieve(t.Context())
		if err != nil || got.AccessKeyID != step.want || got.SecretAccessKey != "s" || got.SessionToken != "t" {
			t.Errorf("got %v, %v, want %s", got, err, step.want)
		}
	}
	if got := strings.Join(recorded, ", "); got != "gatehouse ASIA1, gatehouse ASIA2" {
		t.Errorf("recorded %s", got)
	}
	b.boot, b.no = b.boot+time.Hour, &tokenexchange.Failure{Status: 403, Code: "AccessDeniedException", Message: "Access Denied"}
	if got, err := provider.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "Access Denied") {
		t.Errorf("the cloud says no: got %v, %v", got, err)
	}
}
