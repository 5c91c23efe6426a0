-- written by the code that has brought form 2
BEGIN TRANSACTION;
CREATE TABLE classes (
	id VARCHAR(64) NOT NULL, 
	platform VARCHAR(2000) NOT NULL, 
	context VARCHAR(255) NOT NULL, 
	title VARCHAR(255) NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "classes" VALUES('c1','https://a.example 1','7','Class 7');
CREATE TABLE facts (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "facts" VALUES('name','"7b"');
CREATE TABLE handins (
	id VARCHAR(64) NOT NULL, 
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	at FLOAT NOT NULL, 
	late BOOLEAN NOT NULL, 
	save VARCHAR(64) NOT NULL, 
	files TEXT NOT NULL, 
	grade TEXT, 
	graded FLOAT, 
	basis VARCHAR(64), 
	earlier TEXT, 
	due BOOLEAN NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "handins" VALUES('h1','s1','hello',1700000000.0,0,'y','{"main.py": "print(1)"}','{"student": "s1", "source": "", "tests": [{"name": "t", "status": "ok", "points": 1.0, "possible": 1.0, "message": "", "output": "", "hidden": false, "seconds": 0.0, "line": null, "fault": "", "records": [], "unrecorded": ""}], "message": "", "submitted": null, "late": false, "code": "", "seconds": 0.0, "failed": false, "note": ""}',1700000002.0,'new','{"at": 1700000001.0, "grade": {"student": "s1", "source": "", "tests": [{"name": "t", "status": "wrong_answer", "points": 0.0, "possible": 1.0, "message": "", "output": "", "hidden": false, "seconds": 0.0, "line": null, "fault": "", "records": [], "unrecorded": ""}], "message": "", "submitted": null, "late": false, "code": "", "seconds": 0.0, "failed": false, "note": ""}, "basis": "old"}',0);
CREATE TABLE hints (
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	shown INTEGER NOT NULL, 
	PRIMARY KEY (seat, exercise)
);
CREATE TABLE lines (
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	platform VARCHAR(2000) NOT NULL, 
	user VARCHAR(255) NOT NULL, 
	url TEXT NOT NULL, 
	brought TEXT NOT NULL, 
	PRIMARY KEY (seat, exercise)
);
INSERT INTO "lines" VALUES('s1','hello','https://a.example 1','u1','https://a.example/line','1.000000 1700000000.000');
CREATE TABLE results (
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	at FLOAT NOT NULL, 
	grade TEXT NOT NULL, 
	basis VARCHAR(64), 
	PRIMARY KEY (seat, exercise)
);
INSERT INTO "results" VALUES('s1','hello',1700000003.0,'{"student": "s1", "source": "", "tests": [{"name": "t", "status": "ok", "points": 1.0, "possible": 1.0, "message": "", "output": "", "hidden": false, "seconds": 0.0, "line": null, "fault": "", "records": [], "unrecorded": ""}], "message": "", "submitted": null, "late": false, "code": "", "seconds": 0.0, "failed": false, "note": ""}','new');
CREATE TABLE runs (
	number INTEGER NOT NULL, 
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	at FLOAT NOT NULL, 
	seconds FLOAT NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	error TEXT NOT NULL, 
	PRIMARY KEY (number)
);
CREATE TABLE seats (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	personal VARCHAR(32) NOT NULL, 
	generation INTEGER NOT NULL, 
	joined FLOAT NOT NULL, 
	exercise VARCHAR(64), 
	hand FLOAT, 
	locked BOOLEAN NOT NULL, 
	removed BOOLEAN NOT NULL, 
	class_id VARCHAR(64) NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "seats" VALUES('s1','Ada','aaaa',1,1700000000.0,NULL,NULL,0,0,'c1');
CREATE TABLE shares (
	id VARCHAR(64) NOT NULL, 
	title TEXT NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	"by" VARCHAR(16) NOT NULL, 
	at FLOAT NOT NULL, 
	files TEXT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE texts (
	seat VARCHAR(64) NOT NULL, 
	exercise VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	begun FLOAT NOT NULL, 
	at FLOAT NOT NULL, 
	why VARCHAR(16) NOT NULL, 
	save VARCHAR(64) NOT NULL, 
	size INTEGER NOT NULL, 
	files TEXT NOT NULL, 
	PRIMARY KEY (seat, exercise, version)
);
INSERT INTO "texts" VALUES('s1','hello',1,1700000000.0,1700000000.0,'saved','x',23,'{"main.py": "print(1)"}');
CREATE TABLE users (
	platform VARCHAR(2000) NOT NULL, 
	context VARCHAR(255) NOT NULL, 
	user VARCHAR(255) NOT NULL, 
	seat VARCHAR(64) NOT NULL, 
	PRIMARY KEY (platform, context, user)
);
INSERT INTO "users" VALUES('https://a.example 1','7','u1','s1');
CREATE INDEX ix_handins_due ON handins (due);
CREATE INDEX ix_handins_seat ON handins (seat);
CREATE INDEX ix_runs_seat ON runs (seat);
COMMIT;
