package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// silence is how long decisions are spared the wait after a daemon did not answer one,
// while no pushes arrive either.
const silence = time.Second

// request sends body to op and returns the body of the answer. Its errors are those of
// this package.
func (c *Client) request(ctx context.Context, op authapi.Op, body []byte) ([]byte, error) {
	return c.requestWithin(ctx, op, body, c.cfg.Timeout)
}

func (c *Client) requestWithin(ctx context.Context, op authapi.Op, body []byte, timeout time.Duration) ([]byte, error) {
	now := c.cfg.Now()
	if !c.feed.fresh(now, c.cfg.MaxStale) && int64(now.Sub(c.feed.base)) < c.silentUntil.Load() {
		return nil, fmt.Errorf("%s: %w: Gatehouse is silent", op, ErrUnavailable)
	}
	select {
	case c.inFlight <- struct{}{}:
		defer func() { <-c.inFlight }()
	default:
		return nil, c.full(op)
	}
	msg, err := c.link.Request(ctx, c.subjects[op], body, timeout)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			c.silentUntil.Store(int64(c.cfg.Now().Sub(c.feed.base) + silence))
		}
		return nil, unanswered(string(op), err)
	}
	refusal := authapi.ReadError(msg.Header.Get(authapi.HeaderError), msg.Header.Get(authapi.HeaderMicroCode), msg.Data)
	if refusal != nil {
		return nil, refused(string(op), refusal)
	}
	return msg.Data, nil
}

// room says whether one more may be asked now. Before a question is written it is a cheap
// look, for when a fleet comes back most of its tries end here; requestWithin takes the place.
func (c *Client) room(op authapi.Op) error {
	if len(c.inFlight) == cap(c.inFlight) {
		return c.full(op)
	}
	return nil
}

func (c *Client) full(op authapi.Op) error {
	return fmt.Errorf("%s: %w: %d requests of this broker wait for an answer", op, ErrBusy, cap(c.inFlight))
}

// ask encodes q, sends it to op and reads the answer with parse.
func ask[A any](ctx context.Context, c *Client, op authapi.Op, q any, parse func([]byte) (A, error)) (A, error) {
	return askWithin(ctx, c, op, q, parse, c.cfg.Timeout)
}

func askWithin[A any](ctx context.Context, c *Client, op authapi.Op, q any, parse func([]byte) (A, error), timeout time.Duration) (A, error) {
	var none A
	if err := c.room(op); err != nil {
		return none, err
	}
	body, err := authapi.Encode(q)
	if err != nil {
		return none, fmt.Errorf("%s: %w: %w", op, ErrDenied, err)
	}
	answer, err := c.requestWithin(ctx, op, body, timeout)
	if err != nil {
		return none, err
	}
	a, err := parse(answer)
	if err != nil {
		return none, fmt.Errorf("%s: %w: %w", op, ErrUnavailable, err)
	}
	return a, nil
}

// Verify asks whether der is the certificate of a client device that Gatehouse trusts.
func (c *Client) Verify(ctx context.Context, der []byte) (bool, error) {
	q := authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: encodeCertificate(der)}}
	a, err := ask(ctx, c, authapi.OpVerify, q, authapi.ParseVerifyReply)
	return a.IsValidClientDevice, err
}

// Token opens a session for the client that connected as clientID with the certificate
// der, and returns its token. A broker that uses tokens closes them with CloseToken.
func (c *Client) Token(ctx context.Context, clientID string, der []byte) (messages.Token, error) {
	q := authapi.TokenRequest{Credential: authapi.TokenCredential{
		MQTT: &authapi.MQTTCredential{ClientID: clientID, CertificatePEM: encodeCertificate(der)},
	}}
	a, err := ask(ctx, c, authapi.OpToken, q, authapi.ParseTokenReply)
	return messages.Token(a.ClientDeviceAuthToken), err
}

// AuthorizeToken asks whether the session of token may do operation on resource.
func (c *Client) AuthorizeToken(ctx context.Context, token messages.Token, operation, resource string) (bool, error) {
	body := authapi.AppendAuthorizeRequest(nil, string(token), operation, resource)
	if len(body) > authapi.MaxMessageBytes {
		return false, fmt.Errorf("authorize: %w: the request is %d bytes, at most %d can be asked", ErrDenied, len(body), authapi.MaxMessageBytes)
	}
	answer, err := c.request(ctx, authapi.OpAuthorize, body)
	if err != nil {
		return false, err
	}
	a, err := authapi.ParseAuthorizeReply(answer)
	if err != nil {
		return false, fmt.Errorf("authorize: %w: %w", ErrUnavailable, err)
	}
	return a.IsAuthorized, nil
}

// CloseToken ends the session of token. That there is none any more is no error.
func (c *Client) CloseToken(ctx context.Context, token messages.Token) error {
	_, err := ask(ctx, c, authapi.OpClose, authapi.TokenOnlyRequest{ClientDeviceAuthToken: string(token)}, authapi.ParseCloseReply)
	if errors.Is(err, ErrSessionClosed) {
		return nil
	}
	return err
}

// permissions fetches what the session of token may do now.
func (c *Client) permissions(ctx context.Context, token messages.Token) (authapi.GrantReply, error) {
	return ask(ctx, c, authapi.OpPermissions, authapi.TokenOnlyRequest{ClientDeviceAuthToken: string(token)}, authapi.ParseGrantReply)
}

// encodeCertificate writes der in base64 without a PEM header: no line breaks, which JSON
// would have to escape and the desk to unescape.
func encodeCertificate(der []byte) string { return base64.StdEncoding.EncodeToString(der) }
