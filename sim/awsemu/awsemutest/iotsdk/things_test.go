package iotsdk_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

// What a registrar and an operator do with things, as the SDK sees it (cloud spec 4.1).
func TestThings(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	client := client(t, c, c.AdminCredentials(), awsemu.Region)
	name, pump := aws.String("pump-9"), aws.String("pump")
	kind, err := client.CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: pump, ThingTypeProperties: &types.ThingTypeProperties{
		ThingTypeDescription: aws.String("a pump"), SearchableAttributes: []string{"site"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	described, err := client.DescribeThingType(t.Context(), &iot.DescribeThingTypeInput{ThingTypeName: pump})
	if err != nil || *described.ThingTypeId != *kind.ThingTypeId || *described.ThingTypeArn != *kind.ThingTypeArn || *described.ThingTypeProperties.ThingTypeDescription != "a pump" ||
		!slices.Equal(described.ThingTypeProperties.SearchableAttributes, []string{"site"}) || described.ThingTypeMetadata.Deprecated || time.Since(*described.ThingTypeMetadata.CreationDate) > time.Hour {
		t.Errorf("type: %+v, %v", described, err)
	}
	if listed, err := client.ListThingTypes(t.Context(), &iot.ListThingTypesInput{}); err != nil || len(listed.ThingTypes) != 1 || *listed.ThingTypes[0].ThingTypeName != "pump" {
		t.Errorf("types: %+v, %v", listed, err)
	}

	input := &iot.CreateThingInput{ThingName: name, ThingTypeName: pump, AttributePayload: &types.AttributePayload{Attributes: map[string]string{"site": "north"}}}
	made, err := client.CreateThing(t.Context(), input)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := client.CreateThing(t.Context(), input); err != nil || *again.ThingId != *made.ThingId {
		t.Errorf("again: %+v, %v", again, err)
	}
	_, err = client.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: name})
	if conflict := wantError[*types.ResourceAlreadyExistsException](t, "differing", err, 409, "different properties"); conflict == nil || aws.ToString(conflict.ResourceId) != *made.ThingId || aws.ToString(conflict.ResourceArn) != *made.ThingArn {
		t.Errorf("conflict: %+v", conflict)
	}
	if _, err := client.UpdateThing(t.Context(), &iot.UpdateThingInput{ThingName: name, AttributePayload: &types.AttributePayload{Attributes: map[string]string{"line": "4"}, Merge: true}, ExpectedVersion: aws.Int64(1)}); err != nil {
		t.Error(err)
	}
	_, err = client.UpdateThing(t.Context(), &iot.UpdateThingInput{ThingName: name, ExpectedVersion: aws.Int64(1)})
	wantError[*types.VersionConflictException](t, "old version", err, 409, "version")
	thing, err := client.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: name})
	if err != nil || *thing.ThingTypeName != "pump" || thing.Version != 2 || *thing.ThingId != *made.ThingId || *thing.DefaultClientId != "pump-9" || !maps.Equal(thing.Attributes, map[string]string{"site": "north", "line": "4"}) {
		t.Errorf("thing: %+v, %v", thing, err)
	}
	if found, err := client.ListThings(t.Context(), &iot.ListThingsInput{AttributeName: aws.String("site"), AttributeValue: aws.String("nor"), UsePrefixAttributeValue: true, ThingTypeName: pump}); err != nil || len(found.Things) != 1 || *found.Things[0].ThingArn != *made.ThingArn {
		t.Errorf("found: %+v, %v", found, err)
	}

	device := aws.String(awsemu.CertificateARN(c.Device.ID))
	_, err = client.AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: name, Principal: device, ThingPrincipalType: types.ThingPrincipalTypeExclusiveThing})
	wantError[*types.InvalidRequestException](t, "exclusively, beside another", err, 400, "exclusive")
	if _, err := client.AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: name, Principal: device}); err != nil {
		t.Error(err)
	}
	var things []string
	for paginator := iot.NewListPrincipalThingsPaginator(client, &iot.ListPrincipalThingsInput{Principal: device, MaxResults: aws.Int32(1)}); paginator.HasMorePages(); {
		page, err := paginator.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		things = append(things, page.Things...)
	}
	if !slices.Equal(things, []string{awsemutest.Thing(0), "pump-9"}) {
		t.Errorf("things of the certificate: %v", things)
	}
	if objects, err := client.ListPrincipalThingsV2(t.Context(), &iot.ListPrincipalThingsV2Input{Principal: device}); err != nil || len(objects.PrincipalThingObjects) != 2 || objects.PrincipalThingObjects[1].ThingPrincipalType != types.ThingPrincipalTypeNonExclusiveThing {
		t.Errorf("things, version 2: %+v, %v", objects, err)
	}
	_, err = client.DeleteThing(t.Context(), &iot.DeleteThingInput{ThingName: name})
	wantError[*types.InvalidRequestException](t, "delete while attached", err, 400, "attached")
	if _, err := client.DetachThingPrincipal(t.Context(), &iot.DetachThingPrincipalInput{ThingName: name, Principal: device}); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, err := client.DeleteThing(t.Context(), &iot.DeleteThingInput{ThingName: name}); err != nil {
			t.Error(err)
		}
	}
	if _, err := client.DeprecateThingType(t.Context(), &iot.DeprecateThingTypeInput{ThingTypeName: pump}); err != nil {
		t.Error(err)
	}
	_, err = client.DeleteThingType(t.Context(), &iot.DeleteThingTypeInput{ThingTypeName: pump})
	wantError[*types.InvalidRequestException](t, "delete a type at once", err, 400, "5 minutes")
}

// Templates, and RegisterThing by one.
func TestTemplates(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	client, now := client(t, c, c.AdminCredentials(), awsemu.Region), time.Now()
	const body = `{"Parameters":{"Id":{"Type":"String"},"Name":{"Type":"String","Default":"pump-9"}},"Resources":{
		"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"}}},
		"cert":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"Id"},"Status":"ACTIVE"}},
		"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"GreengrassV2IoTThingPolicy"}}}}`
	name, role := aws.String("fleet"), aws.String("arn:aws:iam::123456789012:role/Provisioning")
	made, err := client.CreateProvisioningTemplate(t.Context(), &iot.CreateProvisioningTemplateInput{
		TemplateName: name, TemplateBody: aws.String(body), ProvisioningRoleArn: role, Type: types.TemplateTypeJitp, Enabled: aws.Bool(true), Description: aws.String("pumps"),
	})
	if err != nil || *made.DefaultVersionId != 1 || !strings.HasSuffix(*made.TemplateArn, ":provisioningtemplate/fleet") {
		t.Fatalf("made: %+v, %v", made, err)
	}
	described, err := client.DescribeProvisioningTemplate(t.Context(), &iot.DescribeProvisioningTemplateInput{TemplateName: name})
	if err != nil || *described.TemplateBody != body || !aws.ToBool(described.Enabled) || described.Type != types.TemplateTypeJitp || *described.ProvisioningRoleArn != *role || *described.Description != "pumps" || described.CreationDate.Before(now.Add(-time.Minute)) {
		t.Errorf("described: %+v, %v", described, err)
	}
	if listed, err := client.ListProvisioningTemplates(t.Context(), &iot.ListProvisioningTemplatesInput{}); err != nil || len(listed.Templates) != 1 || *listed.Templates[0].TemplateName != "fleet" || !aws.ToBool(listed.Templates[0].Enabled) {
		t.Errorf("listed: %+v, %v", listed, err)
	}
	ca := awsemutest.NewAuthority(t, "factory", now, nil)
	registered, err := client.RegisterCACertificate(t.Context(), &iot.RegisterCACertificateInput{
		CaCertificate: text(ca.PEM), CertificateMode: types.CertificateModeSniOnly, SetAsActive: true, AllowAutoRegistration: true, RegistrationConfig: &types.RegistrationConfig{TemplateName: name},
	})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := client.DescribeCACertificate(t.Context(), &iot.DescribeCACertificateInput{CertificateId: registered.CertificateId}); err != nil || d.RegistrationConfig == nil || *d.RegistrationConfig.TemplateName != "fleet" {
		t.Errorf("the CA's: %+v, %v", d, err)
	}
	_, err = client.DeleteProvisioningTemplate(t.Context(), &iot.DeleteProvisioningTemplateInput{TemplateName: name})
	wantError[*types.DeleteConflictException](t, "delete while in use", err, 409, string(ca.ID()))

	done, err := client.RegisterThing(t.Context(), &iot.RegisterThingInput{TemplateBody: aws.String(body), Parameters: map[string]string{"Id": string(c.Device.ID)}})
	if err != nil || *done.CertificatePem != string(c.Device.CertificatePEM) || done.ResourceArns["cert"] != awsemu.CertificateARN(c.Device.ID) || !strings.HasSuffix(done.ResourceArns["thing"], ":thing/pump-9") || len(done.ResourceArns) != 3 {
		t.Errorf("registered: %+v, %v", done, err)
	}
	_, err = client.RegisterThing(t.Context(), &iot.RegisterThingInput{TemplateBody: aws.String(body)})
	wantError[*types.InvalidRequestException](t, "without a parameter", err, 400, "Id has no value")
}
