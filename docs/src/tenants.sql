ALTER TABLE "user" ENABLE ROW LEVEL SECURITY;
ALTER TABLE "user" FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON "user" USING (tenant = current_setting('app.tenant', true));

ALTER TABLE knox_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE knox_token FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON knox_token USING (user_id IN (SELECT id FROM "user"));
