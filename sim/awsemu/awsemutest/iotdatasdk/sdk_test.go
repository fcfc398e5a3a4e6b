// Package iotdatasdk_test lets aws-sdk-go-v2's client of AWS IoT's data plane judge the
// emulated cloud.
package iotdatasdk_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	data "github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"
	"github.com/aws/smithy-go"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

const patience = 20 * time.Second

func signing(t *testing.T, c *awsemutest.Cloud, keys awsemu.Credentials) *data.Client {
	t.Helper()
	return data.New(data.Options{
		Region: awsemu.Region, BaseEndpoint: aws.String(c.ControlURL()), HTTPClient: c.HTTPClient(t), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken),
	})
}

// withCertificate is a client that shows the core's certificate in place of signing.
func withCertificate(t *testing.T, c *awsemutest.Cloud) *data.Client {
	t.Helper()
	return data.New(data.Options{
		Region: awsemu.Region, BaseEndpoint: aws.String(c.URL()), HTTPClient: c.CoreClient(t), RetryMaxAttempts: 1, Credentials: aws.AnonymousCredentials{},
	})
}

// both runs a test for each way to be known.
func both(t *testing.T, f func(t *testing.T, c *awsemutest.Cloud, client *data.Client)) {
	t.Run("signed", func(t *testing.T) {
		c := awsemutest.Start(t, 2, time.Now)
		f(t, c, signing(t, c, c.AdminCredentials()))
	})
	t.Run("certificate", func(t *testing.T) {
		c := awsemutest.Start(t, 2, time.Now)
		allow(t, c, "all", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`)
		f(t, c, withCertificate(t, c))
	})
}

// allow gives the core's certificate one more policy.
func allow(t *testing.T, c *awsemutest.Cloud, name, document string) {
	t.Helper()
	if err := errors.Join(c.Registry.CreatePolicy(name, document, time.Now()), c.Registry.AttachPolicy(name, awsemu.CertificateARN(c.Identity.ID))); err != nil {
		t.Fatal(err)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

type document struct {
	State, Metadata struct{ Desired, Reported, Delta map[string]any }
	Version         int64
	Timestamp       int64
	ClientToken     string
}

func parse(t *testing.T, text []byte) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return d
}

func TestShadows(t *testing.T) {
	both(t, func(t *testing.T, c *awsemutest.Cloud, client *data.Client) {
		thing := aws.String(awsemutest.Thing(0))
		for _, name := range []*string{nil, aws.String("config")} {
			label := *thing
			if name != nil {
				label += "~" + *name
			}
			var missing *types.ResourceNotFoundException
			_, err := client.GetThingShadow(t.Context(), &data.GetThingShadowInput{ThingName: thing, ShadowName: name})
			if !errors.As(err, &missing) || *missing.Message != "No shadow exists with name: '"+label+"'" {
				t.Fatalf("a shadow that is not there: %v", err)
			}
			update := func(payload string) (document, error) {
				out, err := client.UpdateThingShadow(t.Context(), &data.UpdateThingShadowInput{ThingName: thing, ShadowName: name, Payload: []byte(payload)})
				if err != nil {
					return document{}, err
				}
				return parse(t, out.Payload), nil
			}
			got := must[document](t)(update(`{"state":{"desired":{"led":"on"},"reported":{"led":"off"}},"clientToken":"t-1"}`))
			if got.Version != 1 || got.ClientToken != "t-1" || got.State.Desired["led"] != "on" || got.Metadata.Reported["led"] == nil || got.Timestamp < 1e9 {
				t.Errorf("updated: %+v", got)
			}
			out := must[*data.GetThingShadowOutput](t)(client.GetThingShadow(t.Context(), &data.GetThingShadowInput{ThingName: thing, ShadowName: name}))
			if got := parse(t, out.Payload); got.Version != 1 || got.State.Delta["led"] != "on" || got.ClientToken != "" {
				t.Errorf("read: %s", out.Payload)
			}
			var conflict *types.ConflictException
			if _, err := update(`{"state":{"desired":{"led":"off"}},"version":7}`); !errors.As(err, &conflict) || *conflict.Message != "Version conflict" {
				t.Errorf("another version: %v", err)
			}
			var invalid *types.InvalidRequestException
			if _, err := update(`{"state":1}`); !errors.As(err, &invalid) {
				t.Errorf("no state: %v", err)
			}
			var large *types.RequestEntityTooLargeException
			if _, err := update(`{"state":{"desired":{"x":"` + strings.Repeat("x", 9000) + `"}}}`); !errors.As(err, &large) {
				t.Errorf("9 KB of state: %v", err)
			}
			deleted := must[*data.DeleteThingShadowOutput](t)(client.DeleteThingShadow(t.Context(), &data.DeleteThingShadowInput{ThingName: thing, ShadowName: name}))
			if got := parse(t, deleted.Payload); got.Version != 1 {
				t.Errorf("deleted: %s", deleted.Payload)
			}
			// The next one goes on counting.
			if got := must[document](t)(update(`{"state":{}}`)); got.Version != 2 {
				t.Errorf("made again: %+v", got)
			}
		}
	})
}

func TestNamedShadowsInPages(t *testing.T) {
	both(t, func(t *testing.T, c *awsemutest.Cloud, client *data.Client) {
		thing := aws.String("a-thing-that-is-not-registered")
		var want []string
		for _, name := range []string{"", "e", "b", "d", "a", "c", "gone"} {
			in := &data.UpdateThingShadowInput{ThingName: thing, Payload: []byte(`{"state":{"reported":{}}}`)}
			if name != "" {
				in.ShadowName = aws.String(name)
				want = append(want, name)
			}
			must[*data.UpdateThingShadowOutput](t)(client.UpdateThingShadow(t.Context(), in))
		}
		must[*data.DeleteThingShadowOutput](t)(client.DeleteThingShadow(t.Context(), &data.DeleteThingShadowInput{ThingName: thing, ShadowName: aws.String("gone")}))
		want = want[:5]
		slices.Sort(want)
		var got []string
		in := &data.ListNamedShadowsForThingInput{ThingName: thing, PageSize: aws.Int32(2)}
		for pages := 1; ; pages++ {
			out := must[*data.ListNamedShadowsForThingOutput](t)(client.ListNamedShadowsForThing(t.Context(), in))
			got = append(got, out.Results...)
			if in.NextToken = out.NextToken; in.NextToken == nil {
				if pages != 3 || out.Timestamp < 1e9 {
					t.Errorf("%d pages, at %d", pages, out.Timestamp)
				}
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// subscriber hears of topics as the first device.
type subscriber struct {
	*paho.Client
	messages chan *paho.Publish
	ended    chan struct{}
}

func subscribe(t *testing.T, c *awsemutest.Cloud, connect *paho.Connect, topics ...string) *subscriber {
	t.Helper()
	pair := must[tls.Certificate](t)(c.Device.TLS())
	conn := must[net.Conn](t)((&tls.Dialer{Config: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: c.Servers.Pool(), ServerName: awsemu.ServerName}}).DialContext(t.Context(), "tcp", c.MQTTAddr()))
	s := &subscriber{messages: make(chan *paho.Publish, 100), ended: make(chan struct{})}
	end := sync.OnceFunc(func() { close(s.ended) })
	s.Client = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			s.messages <- p.Packet
			return true, nil
		}},
		OnClientError: func(error) { end() }, OnServerDisconnect: func(*paho.Disconnect) { end() },
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must[*paho.Connack](t)(s.Connect(ctx, connect))
	t.Cleanup(func() { _ = s.Disconnect(&paho.Disconnect{}) })
	for _, topic := range topics {
		must[*paho.Suback](t)(s.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}}}))
	}
	return s
}

func (s *subscriber) next(t *testing.T) *paho.Publish {
	t.Helper()
	select {
	case m := <-s.messages:
		return m
	case <-time.After(patience):
		t.Fatal("no message")
		return nil
	}
}

func TestPublishAndRetain(t *testing.T) {
	both(t, func(t *testing.T, c *awsemutest.Cloud, client *data.Client) {
		s := subscribe(t, c, &paho.Connect{ClientID: awsemutest.Thing(0), CleanStart: true, KeepAlive: 60}, "pumps/#", "$aws/things/+/shadow/update/accepted")
		user := base64.StdEncoding.EncodeToString([]byte(`[{"unit":"C"},{"n":"1"}]`))
		publish := func(in *data.PublishInput) error {
			t.Helper()
			_, err := client.Publish(t.Context(), in)
			return err
		}
		if err := publish(&data.PublishInput{
			Topic: aws.String("pumps/7 north/é"), Payload: []byte{0, 1, 0xff}, Qos: 1, Retain: true, ContentType: aws.String("application/octet-stream"),
			ResponseTopic: aws.String("answers"), CorrelationData: aws.String(base64.StdEncoding.EncodeToString([]byte("x"))),
			UserProperties: aws.String(`[{"unit":"C"},{"n":"1"}]`), MessageExpiry: 60,
		}); err != nil {
			t.Fatal(err)
		}
		m := s.next(t)
		if m.Topic != "pumps/7 north/é" || string(m.Payload) != "\x00\x01\xff" || m.Properties.ContentType != "application/octet-stream" || m.Properties.ResponseTopic != "answers" ||
			string(m.Properties.CorrelationData) != "x" || !reflect.DeepEqual(m.Properties.User, paho.UserProperties{{Key: "unit", Value: "C"}, {Key: "n", Value: "1"}}) {
			t.Errorf("got %v with %+v", m, m.Properties)
		}
		got := must[*data.GetRetainedMessageOutput](t)(client.GetRetainedMessage(t.Context(), &data.GetRetainedMessageInput{Topic: aws.String("pumps/7 north/é")}))
		if string(got.Payload) != "\x00\x01\xff" || got.Qos != 1 || *got.Topic != m.Topic || time.Since(time.UnixMilli(got.LastModifiedTime)) > time.Hour ||
			base64.StdEncoding.EncodeToString(got.UserProperties) != user {
			t.Errorf("retained: %+v, %s", got, got.UserProperties)
		}
		for _, topic := range []string{"a", "b", "c"} {
			if err := publish(&data.PublishInput{Topic: aws.String(topic), Payload: []byte("12345"), Retain: true}); err != nil {
				t.Fatal(err)
			}
		}
		var topics []string
		for p := data.NewListRetainedMessagesPaginator(client, &data.ListRetainedMessagesInput{MaxResults: aws.Int32(3)}); p.HasMorePages(); {
			page := must[*data.ListRetainedMessagesOutput](t)(p.NextPage(t.Context()))
			for _, r := range page.RetainedTopics {
				topics = append(topics, *r.Topic)
			}
		}
		if want := []string{"a", "b", "c", "pumps/7 north/é"}; !slices.Equal(topics, want) {
			t.Errorf("retained topics %v, want %v", topics, want)
		}
		if err := publish(&data.PublishInput{Topic: aws.String("a"), Retain: true}); err != nil { // nothing is to be retained any more
			t.Fatal(err)
		}
		var missing *types.ResourceNotFoundException
		if _, err := client.GetRetainedMessage(t.Context(), &data.GetRetainedMessageInput{Topic: aws.String("a")}); !errors.As(err, &missing) {
			t.Errorf("what is retained no longer: %v", err)
		}

		// A shadow's request is the shadow service's, an event nobody's to forge.
		if err := publish(&data.PublishInput{Topic: aws.String("$aws/things/x/shadow/update"), Payload: []byte(`{"state":{"reported":{"a":1}}}`)}); err != nil {
			t.Fatal(err)
		}
		if m := s.next(t); m.Topic != "$aws/things/x/shadow/update/accepted" {
			t.Errorf("got %s", m.Topic)
		}
		if err := publish(&data.PublishInput{Topic: aws.String("$aws/rules/any/of/them")}); err != nil {
			t.Errorf("basic ingest: %v", err)
		}
		var invalid *types.InvalidRequestException
		for _, in := range []*data.PublishInput{
			{Topic: aws.String("$aws/events/certificates/registered/1")}, {Topic: aws.String("$x")}, {Topic: aws.String("a/#")}, {Topic: aws.String("1/2/3/4/5/6/7/8/9")},
			{Topic: aws.String(strings.Repeat("x", 257))}, {Topic: aws.String("a"), Qos: 2}, {Topic: aws.String("a"), CorrelationData: aws.String("!")},
		} {
			if err := publish(in); !errors.As(err, &invalid) {
				t.Errorf("%s: %v", *in.Topic, err)
			}
		}
		var large *smithy.GenericAPIError
		if err := publish(&data.PublishInput{Topic: aws.String("a"), Payload: make([]byte, 128<<10+1)}); !errors.As(err, &large) || large.Code != "RequestEntityTooLargeException" {
			t.Errorf("more than 128 KiB: %v", err)
		}
	})
}

func TestConnections(t *testing.T) {
	both(t, func(t *testing.T, c *awsemutest.Cloud, client *data.Client) {
		id := awsemutest.Thing(0)
		other := subscribe(t, c, &paho.Connect{ClientID: "listener", CleanStart: true, KeepAlive: 60}, "wills")
		will := &paho.WillMessage{Topic: "wills", Payload: []byte("gone"), QoS: 1}
		expiry := uint32(600)
		connect := func() *subscriber {
			return subscribe(t, c, &paho.Connect{ClientID: id, KeepAlive: 90, WillMessage: will, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}}, "b", "a")
		}
		s := connect()
		got := must[*data.GetConnectionOutput](t)(client.GetConnection(t.Context(), &data.GetConnectionInput{ClientId: &id, IncludeSocketInformation: true}))
		if !got.Connected || got.CleanSession || got.KeepAliveDuration != 90 || *got.ThingName != id || *got.SourceIp != "127.0.0.1" || got.SourcePort == 0 || time.Since(time.UnixMilli(got.ConnectedSince)) > time.Hour {
			t.Errorf("connection: %+v", got)
		}
		subscriptions := must[*data.ListSubscriptionsOutput](t)(client.ListSubscriptions(t.Context(), &data.ListSubscriptionsInput{ClientId: &id, MaxResults: aws.Int32(1)}))
		if len(subscriptions.Subscriptions) != 1 || *subscriptions.Subscriptions[0].TopicFilter != "a" || subscriptions.Subscriptions[0].Qos != 1 || subscriptions.NextToken == nil {
			t.Errorf("subscriptions: %+v", subscriptions)
		}
		end := func(in *data.DeleteConnectionInput) {
			t.Helper()
			must[*data.DeleteConnectionOutput](t)(client.DeleteConnection(t.Context(), in))
			select {
			case <-s.ended:
			case <-time.After(patience):
				t.Fatal("still connected")
			}
		}
		end(&data.DeleteConnectionInput{ClientId: &id})
		if m := other.next(t); string(m.Payload) != "gone" {
			t.Errorf("the will: %v", m)
		}
		got = must[*data.GetConnectionOutput](t)(client.GetConnection(t.Context(), &data.GetConnectionInput{ClientId: &id}))
		if got.Connected || got.DisconnectedSince == 0 {
			t.Errorf("after it ended: %+v", got)
		}
		s = connect()
		end(&data.DeleteConnectionInput{ClientId: &id, CleanSession: true, PreventWillMessage: true})
		var missing *types.ResourceNotFoundException
		if _, err := client.GetConnection(t.Context(), &data.GetConnectionInput{ClientId: &id}); !errors.As(err, &missing) {
			t.Errorf("its session is left: %v", err)
		}
		must[*data.PublishOutput](t)(client.Publish(t.Context(), &data.PublishInput{Topic: aws.String("wills"), Payload: []byte("next")}))
		if m := other.next(t); string(m.Payload) != "next" {
			t.Errorf("a will was published: %v", m)
		}
		if _, err := client.DeleteConnection(t.Context(), &data.DeleteConnectionInput{ClientId: &id}); !errors.As(err, &missing) {
			t.Errorf("twice: %v", err)
		}
	})
}

// Who has signed needs a permission for what it does it to.
func TestWhoMayNot(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	keys := must[awsemu.Credentials](t)(c.IssueCredentials(awsemu.Role{Name: "reader", Policies: map[string]string{
		"p": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:GetThingShadow","iot:Publish"],"Resource":["arn:aws:iot:*:*:thing/x","arn:aws:iot:*:*:thing/x/named","arn:aws:iot:*:*:topic/a"]}]}`,
	}}, time.Hour))
	client := signing(t, c, keys)
	if _, err := client.GetThingShadow(t.Context(), &data.GetThingShadowInput{ThingName: aws.String("x")}); err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
		t.Errorf("a reader: %v", err)
	}
	if _, err := client.GetThingShadow(t.Context(), &data.GetThingShadowInput{ThingName: aws.String("x"), ShadowName: aws.String("named")}); err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
		t.Errorf("a reader of the named shadow: %v", err)
	}
	for name, err := range map[string]error{
		"other":  second(client.GetThingShadow(t.Context(), &data.GetThingShadowInput{ThingName: aws.String("x"), ShadowName: aws.String("other")})),
		"update": second(client.UpdateThingShadow(t.Context(), &data.UpdateThingShadowInput{ThingName: aws.String("x"), Payload: []byte(`{"state":{}}`)})),
		"retain": second(client.Publish(t.Context(), &data.PublishInput{Topic: aws.String("a"), Retain: true})),
		"list":   second(client.ListRetainedMessages(t.Context(), &data.ListRetainedMessagesInput{})),
	} {
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != "ForbiddenException" || api.ErrorMessage() != "Forbidden" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A certificate needs a policy, by the same names. AWS says no more than that it is forbidden.
func TestWhatACertificateMayNot(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	client := withCertificate(t, c)
	const document = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"},
		{"Effect":"Deny","Action":["iot:GetThingShadow","iot:RetainPublish"],"Resource":["arn:aws:iot:*:*:thing/x/secret","arn:aws:iot:*:*:topic/a"]}]}`
	arn := awsemu.CertificateARN(c.Identity.ID)
	for _, name := range c.Registry.Policies(arn) {
		if err := c.Registry.DetachPolicy(name, arn); err != nil {
			t.Fatal(err)
		}
	}
	get := func(name *string) error {
		return second(client.GetThingShadow(t.Context(), &data.GetThingShadowInput{ThingName: aws.String("x"), ShadowName: name}))
	}
	wantForbidden := func(what string, err error) {
		t.Helper()
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != "ForbiddenException" || api.ErrorMessage() == "Forbidden" {
			t.Errorf("%s: %v", what, err)
		}
	}
	wantForbidden("without a policy", get(nil))
	allow(t, c, "most", document)
	for _, name := range []*string{nil, aws.String("open")} {
		if err := get(name); err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
			t.Errorf("allowed: %v", err)
		}
	}
	wantForbidden("a shadow", get(aws.String("secret")))
	wantForbidden("retaining", second(client.Publish(t.Context(), &data.PublishInput{Topic: aws.String("a"), Retain: true})))
	if _, err := client.Publish(t.Context(), &data.PublishInput{Topic: aws.String("a")}); err != nil {
		t.Errorf("publishing: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
