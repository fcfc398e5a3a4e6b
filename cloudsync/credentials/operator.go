package credentials

import (
	"context"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
)

// Operator is as whom a person's command asks AWS: as the person, by Own, and as the core, by
// its role, only where Own has no credentials. What was found first stays. Safe for concurrent use.
type Operator struct {
	// Own is the person's, such as Default returns. Required.
	Own aws.CredentialsProvider
	// Core opens what gives the role's, to be closed after one question. Nil: the core is not asked.
	Core func() (*tokenexchange.Provider, error)

	mu  sync.Mutex
	who string                  // guarded by mu, as the next; "": nobody has asked yet
	by  aws.CredentialsProvider // nil: nobody has any
}

// Retrieve implements aws.CredentialsProvider.
func (o *Operator) Retrieve(ctx context.Context) (aws.Credentials, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.by != nil {
		return o.by.Retrieve(ctx)
	}
	keys, err := o.Own.Retrieve(ctx)
	if err == nil {
		o.by, o.who = o.Own, "you, by "+keys.Source
		return keys, nil
	}
	if o.Core == nil {
		return keys, err
	}
	role, alias, failure := o.role(ctx)
	if failure != nil {
		return aws.Credentials{}, fmt.Errorf("the core's role gives no credentials: %w; and AWS's default chain has none of yours: %w", failure, err)
	}
	o.by = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return role, nil })
	o.who = "the core, by role alias " + alias + ", since AWS's default chain has no credentials of yours"
	return role, nil
}

func (o *Operator) role(ctx context.Context) (aws.Credentials, string, error) {
	p, err := o.Core()
	if err != nil {
		return aws.Credentials{}, "", err
	}
	defer p.Close()
	got, failure := p.Fetch(ctx)
	if failure != nil {
		return aws.Credentials{}, "", failure
	}
	c := got.Credentials
	return aws.Credentials{
		AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey.Reveal(), SessionToken: c.SessionToken.Reveal(),
		Source: "gatehouse token exchange", CanExpire: true, Expires: c.Expiration,
	}, p.RoleAlias(), nil
}

// Who says for people who asked; "" while nobody could.
func (o *Operator) Who() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.who
}
